//! Points on the Earth: how far apart two are, and which numbers a circle around one can hold.
//!
//! A point is two numbers of an item, the fields `NAME.lat` and `NAME.lon`, in degrees.

/// Mean radius of the Earth (IUGG), in metres. The sphere is off by at most 0.5 % from the ellipsoid.
const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// What rounding may do to a bound, in degrees: a tenth of a millimetre.
const SLACK_DEGREES: f64 = 1e-9;

/// The field of a point's latitude.
pub(crate) fn latitude_field(field: &str) -> String {
    format!("{field}.lat")
}

/// The field of a point's longitude.
pub(crate) fn longitude_field(field: &str) -> String {
    format!("{field}.lon")
}

/// A circle on the sphere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Circle {
    pub(crate) lat: f64,
    pub(crate) lon: f64,
    pub(crate) radius_m: f64,
}

impl Circle {
    /// Whether its numbers are such that it is a circle.
    pub(crate) fn is_sound(&self) -> bool {
        self.lat.abs() <= 90.0 && self.lon.abs() <= 180.0 && self.radius_m.is_finite() && self.radius_m >= 0.0
    }

    /// Whether a point lies in it, by the haversine formula. Numbers that are no latitude and longitude are no point.
    pub(crate) fn contains(&self, lat: f64, lon: f64) -> bool {
        lat.abs() <= 90.0 && lon.abs() <= 180.0 && distance_m((self.lat, self.lon), (lat, lon)) <= self.radius_m
    }

    /// The latitudes it can hold, in degrees.
    pub(crate) fn latitudes(&self) -> (f64, f64) {
        let reach = (self.radius_m / EARTH_RADIUS_M).to_degrees() + SLACK_DEGREES;
        (self.lat - reach, self.lat + reach)
    }

    /// The longitudes it can hold, as one or two intervals within -180 to 180 degrees: a circle over the date line has two, one that
    /// touches a pole has all.
    pub(crate) fn longitudes(&self) -> Vec<(f64, f64)> {
        let everywhere = vec![(-180.0, 180.0)];
        let angle = self.radius_m / EARTH_RADIUS_M;
        if angle.to_degrees() + self.lat.abs() >= 90.0 - SLACK_DEGREES {
            return everywhere;
        }
        let reach = (angle.sin() / self.lat.to_radians().cos()).clamp(-1.0, 1.0).asin().to_degrees() + SLACK_DEGREES;
        let (west, east) = (self.lon - reach, self.lon + reach);
        if west < -180.0 {
            vec![(-180.0, east), (west + 360.0, 180.0)]
        } else if east > 180.0 {
            vec![(west, 180.0), (-180.0, east - 360.0)]
        } else {
            vec![(west, east)]
        }
    }
}

/// The great-circle distance of two points given as latitude and longitude in degrees, in metres (haversine).
fn distance_m(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (lat_a, lat_b) = (a.0.to_radians(), b.0.to_radians());
    let half = |difference: f64| (difference.to_radians() / 2.0).sin();
    let h = half(b.0 - a.0).powi(2) + lat_a.cos() * lat_b.cos() * half(b.1 - a.1).powi(2);
    2.0 * EARTH_RADIUS_M * h.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_distances() {
        let (zurich, london) = ((47.3769, 8.5417), (51.5074, -0.1278));
        assert!((distance_m(zurich, london) - 776_000.0).abs() < 2_000.0, "{}", distance_m(zurich, london));
        assert_eq!(distance_m(zurich, zurich), 0.0);
        let across = Circle { lat: 0.0, lon: 179.9, radius_m: 30_000.0 };
        assert!(across.contains(0.0, -179.9) && !across.contains(0.0, -179.0));
        assert!(!across.contains(0.0, 180.1) && !across.contains(0.0, f64::NAN));
        assert!(!Circle { lat: 89.9, lon: 0.0, radius_m: 1e6 }.contains(90.1, 0.0));
    }

    proptest! {
        #[test]
        fn a_point_in_the_circle_is_within_its_bounds(
            lat in -90.0_f64..90.0, lon in -180.0_f64..180.0, radius_m in 0.0_f64..3e7, north in -1.0_f64..1.0, east in -1.0_f64..1.0,
        ) {
            let circle = Circle { lat, lon, radius_m };
            let reach = (radius_m / EARTH_RADIUS_M).to_degrees();
            let (there, mut across) = ((lat + north * reach).clamp(-90.0, 90.0), lon + east * 180.0);
            across -= if across > 180.0 { 360.0 } else if across < -180.0 { -360.0 } else { 0.0 };
            if circle.contains(there, across) {
                let (south, north) = circle.latitudes();
                prop_assert!((south..=north).contains(&there));
                prop_assert!(circle.longitudes().iter().any(|(west, east)| (*west..=*east).contains(&across)));
            }
        }
    }
}
