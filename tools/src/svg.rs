//! Charts as SVG: points and lines over two axes, each linear or logarithmic. Text in, text out; it draws what a report shows as a table.

use std::fmt::Write as _;

/// Size of the picture and of the frame in it, in pixels.
const SIZE: (f64, f64) = (760.0, 460.0);
const LEFT: f64 = 76.0;
const RIGHT: f64 = 180.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 56.0;
/// Colours that people who see red and green alike tell apart (Okabe, Ito 2008), in the order of the series.
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442"];
/// Ticks wanted on a linear axis.
const TICKS: f64 = 6.0;

/// What an axis shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Its name, with the unit.
    pub label: String,
    /// Whether it is logarithmic; values of zero and below are then left out.
    pub log: bool,
}

/// What is drawn of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A dot for each point.
    Dots,
    /// Dots joined by a line, in the order given.
    Line,
    /// A line that keeps its height until the next point.
    Steps,
}

/// Points that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// x and y; points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// How they are drawn.
    pub mark: Mark,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// What is drawn, the first one undermost.
    pub series: Vec<Series>,
}

impl Axis {
    /// An axis with even steps.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: false }
    }

    /// An axis with even factors.
    pub fn log(label: impl Into<String>) -> Self {
        Self { label: label.into(), log: true }
    }

    fn shows(&self, value: f64) -> bool {
        value.is_finite() && (!self.log || value > 0.0)
    }
}

/// An axis with its ends, as far as drawing needs it.
struct Scale {
    log: bool,
    from: f64,
    to: f64,
    /// Pixels of both ends.
    pixels: (f64, f64),
}

impl Scale {
    fn over(axis: &Axis, values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let place = |value: f64| if axis.log { value.log10() } else { value };
        let (from, to) = values
            .filter(|value| axis.shows(*value))
            .map(place)
            .fold((f64::MAX, f64::MIN), |(from, to), value| (from.min(value), to.max(value)));
        let (from, to) = match (from <= to, from < to) {
            (false, _) => (0.0, 1.0),
            (_, false) => (from - 0.5, to + 0.5),
            _ => (from - 0.04 * (to - from), to + 0.04 * (to - from)),
        };
        Self { log: axis.log, from, to, pixels }
    }

    fn pixel(&self, value: f64) -> f64 {
        let place = if self.log { value.log10() } else { value };
        let share = (place - self.from) / (self.to - self.from);
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Values that get a label: 1, 2 and 5 of each power of ten on a short logarithmic axis, the powers on a long one.
    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let digits: &[f64] = if self.to - self.from > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let powers = self.from.floor() as i32..=self.to.ceil() as i32;
            let all = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)));
            return all.filter(|value| (self.from..=self.to).contains(&value.log10())).collect();
        }
        let rough = (self.to - self.from) / TICKS;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let first = (self.from / step).ceil() as i64;
        let last = (self.to / step).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }
}

impl Chart {
    /// The chart as an SVG document.
    pub fn svg(&self) -> String {
        let shown = || {
            let points = self.series.iter().flat_map(|series| series.points.iter().copied());
            points.filter(|(x, y)| self.x.shows(*x) && self.y.shows(*y))
        };
        let x = Scale::over(&self.x, shown().map(|(x, _)| x), (LEFT, SIZE.0 - RIGHT));
        let y = Scale::over(&self.y, shown().map(|(_, y)| y), (SIZE.1 - BOTTOM, TOP));
        let title = escaped(&self.title);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{title}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{title}</text>\n",
            SIZE.0, SIZE.1
        );
        self.frame(&mut svg, &x, &y);
        for (place, series) in self.series.iter().enumerate() {
            let colour = COLOURS[place % COLOURS.len()];
            self.draw(&mut svg, series, colour, &x, &y);
            let at = TOP + 10.0 + 20.0 * place as f64;
            let left = SIZE.0 - RIGHT + 16.0;
            let _ = writeln!(
                svg,
                "<circle cx=\"{left}\" cy=\"{at}\" r=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"{}\">{}</text>",
                left + 10.0,
                at + 4.0,
                escaped(&series.name)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn frame(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let (right, bottom) = (SIZE.0 - RIGHT, SIZE.1 - BOTTOM);
        for value in x.ticks() {
            let at = x.pixel(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                number(value)
            );
        }
        for value in y.ticks() {
            let at = y.pixel(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                number(value)
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#333\"/>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(18 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            SIZE.1 - 14.0,
            escaped(&self.x.label),
            (TOP + bottom) / 2.0,
            escaped(&self.y.label)
        );
    }

    fn draw(&self, svg: &mut String, series: &Series, colour: &str, x: &Scale, y: &Scale) {
        let shown = series.points.iter().filter(|(px, py)| self.x.shows(*px) && self.y.shows(*py));
        let pixels: Vec<(f64, f64)> = shown.map(|(px, py)| (x.pixel(*px), y.pixel(*py))).collect();
        if series.mark != Mark::Dots {
            let mut path = String::new();
            for (place, (px, py)) in pixels.iter().enumerate() {
                let _ = match (place, series.mark) {
                    (0, _) => write!(path, "M{px:.1} {py:.1}"),
                    (_, Mark::Steps) => write!(path, "H{px:.1}V{py:.1}"),
                    _ => write!(path, "L{px:.1} {py:.1}"),
                };
            }
            let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        }
        if series.mark != Mark::Steps {
            for (px, py) in pixels {
                let _ = writeln!(svg, "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\" fill=\"{colour}\"/>");
            }
        }
    }
}

/// A tick's value: at most four digits after the point, thousands by a suffix.
fn number(value: f64) -> String {
    let short = |value: f64| {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match value.abs() {
        large if large >= 1e6 => format!("{}M", short(value / 1e6)),
        large if large >= 1e3 => format!("{}k", short(value / 1e3)),
        small if small > 0.0 && small < 1e-3 => {
            let power = small.log10().floor() as i32;
            format!("{}e{power}", short(value / 10_f64.powi(power)))
        }
        _ => short(value),
    }
}

/// Text that is safe inside an element.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(log: bool, points: Vec<(f64, f64)>) -> Chart {
        let axis = |label: &str| Axis { label: label.to_owned(), log };
        Chart {
            title: "a < b".to_owned(),
            x: axis("x"),
            y: axis("y"),
            series: vec![Series { name: "s & t".to_owned(), points, mark: Mark::Line }],
        }
    }

    #[test]
    fn every_point_is_inside_the_frame_and_text_is_escaped() {
        let svg = chart(false, vec![(0.0, -5.0), (10.0, 5.0), (f64::NAN, 1.0)]).svg();
        assert!(svg.contains("a &lt; b") && svg.contains("s &amp; t"), "{svg}");
        assert!(svg.contains("role=\"img\" aria-label=\"a &lt; b\""), "told to whoever does not see it: {svg}");
        assert_eq!(svg.matches("r=\"3\"").count(), 2, "the point that is not a number is left out");
        let inside = |line: &str, name: &str, least: f64, most: f64| {
            let value: f64 =
                line.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
            assert!((least..=most).contains(&value), "{line}");
        };
        for line in svg.lines().filter(|line| line.contains("r=\"3\"")) {
            inside(line, "cx", LEFT, SIZE.0 - RIGHT);
            inside(line, "cy", TOP, SIZE.1 - BOTTOM);
        }
    }

    #[test]
    fn a_logarithmic_axis_has_powers_of_ten_and_leaves_out_what_it_cannot_show() {
        let svg = chart(true, vec![(0.0, 1.0), (1.0, 1.0), (10_000.0, 1_000_000.0)]).svg();
        assert_eq!(svg.matches("r=\"3\"").count(), 2);
        for label in [">10<", ">10k<", ">1M<"] {
            assert!(svg.contains(label), "{label}: {svg}");
        }
    }

    #[test]
    fn nothing_to_show_and_a_single_point_are_charts_too() {
        assert!(chart(false, Vec::new()).svg().ends_with("</svg>\n"));
        assert!(chart(true, vec![(3.0, 3.0)]).svg().contains("r=\"3\""));
    }

    #[test]
    fn ticks_are_round_numbers() {
        let axis = Axis::linear("x");
        let scale = Scale::over(&axis, [0.0, 10.0].into_iter(), (0.0, 1.0));
        assert_eq!(scale.ticks(), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!([number(0.05), number(1500.0), number(0.0), number(2.0)], ["0.05", "1.5k", "0", "2"]);
        assert_eq!([number(0.0002), number(0.00025), number(-0.00015)], ["2e-4", "2.5e-4", "-1.5e-4"]);
    }
}
