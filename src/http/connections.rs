//! How many connections a listener has, and which of them end with their next answer.
//!
//! The HTTP library times the head of a connection's first request, and a connection on which none has begun. Whoever begins a second one and does
//! not end it has a place for ever. So the last places are for those who come: once no others are left, each answer closes its connection.

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
pub(crate) struct Connection(Arc<Connections>);

impl Connections {
    /// None yet; there are so many places.
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), staying_max: places - places.div_ceil(PLACES_PER_NEWCOMER) })
    }

    /// One more, until it is dropped.
    pub(crate) fn open(self: &Arc<Self>) -> Connection {
        self.open.fetch_add(1, Ordering::Relaxed);
        Connection(Arc::clone(self))
    }
}

impl Connection {
    /// Whether there are more than may stay.
    fn is_too_many(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) > self.0.staying_max
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets an answer close its connection where there are too many.
pub(crate) fn close_where_too_many<B>(response: &mut ServiceResponse<B>) {
    if response.request().conn_data::<Connection>().is_some_and(Connection::is_too_many) {
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
            assert!(open.iter().all(|one| !one.is_too_many()), "{places}");
            open.push(connections.open());
            assert!(open.iter().all(Connection::is_too_many), "{places}");
            open.pop();
            assert!(open.iter().all(|one| !one.is_too_many()), "{places}: one has gone");
        }
    }
}
