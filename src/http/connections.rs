//! How many connections a listener has, and which of them end with their next answer.
//!
//! The HTTP library times the head of a connection's first request, and a connection on which none has begun. Whoever begins a second one and does
//! not end it has a place for ever. So the last places are for those who come: whoever came into one of them is answered once, and then makes room
//! for the next. Who came before them stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::dev::ServiceResponse;
use actix_web::http::ConnectionType;

/// Of so many places one is for those who come.
const PLACES_PER_NEWCOMER: usize = 32;

/// The connections of a listener.
#[derive(Debug)]
pub(crate) struct Connections {
    open: AtomicUsize,
    staying_max: usize,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    of: Arc<Connections>,
    /// Whether it goes on after its first answer.
    stays: bool,
}

impl Connections {
    /// None yet; there are so many places.
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), staying_max: places - places.div_ceil(PLACES_PER_NEWCOMER) })
    }

    /// One more, until it is dropped.
    pub(crate) fn open(self: &Arc<Self>) -> Connection {
        let stays = self.open.fetch_add(1, Ordering::Relaxed) < self.staying_max;
        Connection { of: Arc::clone(self), stays }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.of.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets an answer close its connection, if that came into one of the last places.
pub(crate) fn close_unless_it_stays<B>(response: &mut ServiceResponse<B>) {
    if response.request().conn_data::<Connection>().is_some_and(|connection| !connection.stays) {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_places_are_for_those_who_come() {
        for (places, staying) in [(1, 0), (8, 7), (64, 62), (65, 62)] {
            let connections = Connections::new(places);
            let mut open: Vec<Connection> = (0..staying).map(|_| connections.open()).collect();
            assert!(open.iter().all(|one| one.stays), "{places}");
            let late = connections.open();
            assert!(!late.stays && !connections.open().stays, "{places}");
            drop(late);
            assert!(open.pop().is_none_or(|gone| gone.stays));
            assert_eq!(connections.open().stays, staying > 0, "{places}: one has gone");
        }
    }
}
