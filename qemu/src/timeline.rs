//! What a boot does when, as a picture: the whole boot, and below, magnified, the unit that is compared.

use crate::moments::{Moments, Span};
use anyhow::{Context, Result, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// One boot, and what it is called.
pub type Boot<'a> = (&'a str, &'a Moments);

/// A part of a bar: its name in the legend, and its colour.
struct Part {
    name: &'static str,
    colour: RGBColor,
}

const fn part(name: &'static str, red: u8, green: u8, blue: u8) -> Part {
    Part { name, colour: RGBColor(red, green, blue) }
}

/// The parts of a boot, in their order.
const BOOT: [Part; 6] = [
    part("kernel", 160, 160, 160),
    part("initramfs: systemd and udev, until the disk is there", 158, 202, 225),
    part("initramfs: check and mount the disk", 66, 146, 198),
    part("initramfs: ostree-prepare-root.service", 214, 39, 40),
    part("initramfs: clean up, switch root", 8, 81, 156),
    part("init, until multi-user.target", 253, 200, 120),
];

/// The parts of the unit.
const UNIT: [Part; 3] = [
    part("systemd starts it", 250, 190, 190),
    part("ostree-prepare-root, from exec to exit", 214, 39, 40),
    part("systemd notices, and writes to the journal", 225, 160, 160),
];

const WIDTH: u32 = 800;
const TEXT: (&str, i32) = ("sans-serif", 13);
const TITLE: (&str, i32) = ("sans-serif", 16);

/// Where the parts begin and end: each begins where the one before ends.
fn boot_times(boot: &Moments) -> Result<[f64; BOOT.len() + 1]> {
    let device = boot.jobs.iter().find(|job| job.unit.ends_with(".device")).map(|job| job.span.end);
    let device = device.context("the journal has no device that systemd waited for")?;
    let Span { start, end } = boot.unit;
    let times = [0.0, boot.initramfs, device, start, end, boot.switched, boot.multi_user];
    ensure!(times.is_sorted(), "the parts of the boot are not in their order: {times:?}");
    Ok(times)
}

/// The same of the unit, in milliseconds since it began.
fn unit_times(boot: &Moments) -> Result<[f64; UNIT.len() + 1]> {
    let times = [boot.unit.start, boot.program.start, boot.program.end, boot.unit.end];
    ensure!(times.is_sorted(), "the program ran outside of its unit: {times:?}");
    Ok(times.map(|time| (time - boot.unit.start) * 1e3))
}

/// Draws boots, one above the other.
pub fn draw(picture: &Path, title: &str, boots: &[Boot<'_>; 2]) -> Result<()> {
    let [first, second] = boots.each_ref().map(|(_, boot)| boot_times(boot));
    let boot = [first?, second?];
    let [first, second] = boots.each_ref().map(|(_, boot)| unit_times(boot));
    let unit = [first?, second?];
    let names = boots.map(|(name, _)| name);
    let seconds = legend(&BOOT, &boot, |time| format!("{time:.2} s"));
    let milliseconds = legend(&UNIT, &unit, |time| format!("{time:.1} ms"));

    let root = SVGBackend::new(picture, (WIDTH, 500)).into_drawing_area();
    root.fill(&WHITE)?;
    root.draw(&Text::new(title.to_owned(), (10, 10), TITLE))?;
    let rest = root.margin(36, 0, 0, 0);
    let (upper, rest) = rest.split_vertically(120);
    let (text, rest) = rest.split_vertically(128);
    bars(&upper, &names, &BOOT, &boot, "s")?;
    write_legend(&text, &BOOT, &seconds, &names)?;
    let (heading, rest) = rest.split_vertically(28);
    let times = last(&boot) * 1e3 / last(&unit);
    let title = format!("ostree-prepare-root.service, magnified {times:.0} times");
    heading.draw(&Text::new(title, (10, 6), TITLE))?;
    let (lower, text) = rest.split_vertically(110);
    bars(&lower, &names, &UNIT, &unit, "ms")?;
    write_legend(&text, &UNIT, &milliseconds, &names)?;
    root.present()?;
    Ok(())
}

/// When the longer of two bars ends.
fn last<const TIMES: usize>(times: &[[f64; TIMES]; 2]) -> f64 {
    times.iter().flatten().copied().fold(0.0, f64::max)
}

/// Both bars above an axis.
fn bars<const TIMES: usize>(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    names: &[&str; 2],
    parts: &[Part],
    times: &[[f64; TIMES]; 2],
    unit: &str,
) -> Result<()> {
    let end = last(times);
    let mut chart = ChartBuilder::on(area)
        .margin_right(40)
        .x_label_area_size(28)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..end * 1.02, 0.0..2.0)?;
    let label = |time: &f64| format!("{time:.0} {unit}");
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_labels(10)
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_label_formatter(&label)
        .label_style(TEXT)
        .draw()?;
    let beside = TextStyle::from(TEXT).pos(Pos::new(HPos::Right, VPos::Center));
    for ((name, times), bottom) in names.iter().zip(times).zip([1.15, 0.15]) {
        for (part, ends) in parts.iter().zip(times.windows(2)) {
            let corners = [(ends[0], bottom), (ends[1], bottom + 0.7)];
            chart.draw_series([Rectangle::new(corners, part.colour.filled())])?;
        }
        let place = (-end * 0.01, bottom + 0.35);
        let (x, y) = chart.plotting_area().map_coordinate(&place);
        let (left, top) = area.get_pixel_range();
        area.draw(&Text::new((*name).to_owned(), (x - left.start, y - top.start), beside.clone()))?;
    }
    Ok(())
}

/// How long the parts took, one line for each part.
fn legend<const TIMES: usize>(
    parts: &[Part],
    times: &[[f64; TIMES]; 2],
    readable: impl Fn(f64) -> String,
) -> Vec<[String; 2]> {
    let took = |part: usize| times.each_ref().map(|times| readable(times[part + 1] - times[part]));
    (0..parts.len()).map(took).collect()
}

/// The parts' colours, names, and how long they took in each boot.
fn write_legend(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    parts: &[Part],
    took: &[[String; 2]],
    names: &[&str; 2],
) -> Result<()> {
    const COLUMNS: [i32; 2] = [560, 680];
    let right = TextStyle::from(TEXT).pos(Pos::new(HPos::Right, VPos::Top));
    for (name, x) in names.iter().zip(COLUMNS) {
        area.draw(&Text::new((*name).to_owned(), (x, 0), right.clone()))?;
    }
    let mut y = 18;
    for (part, took) in parts.iter().zip(took) {
        area.draw(&Rectangle::new([(80, y), (94, y + 12)], part.colour.filled()))?;
        area.draw(&Text::new(part.name, (102, y), TEXT))?;
        for (took, x) in took.iter().zip(COLUMNS) {
            area.draw(&Text::new(took.clone(), (x, y), right.clone()))?;
        }
        y += 18;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moments::Job;
    use std::fs;

    fn boot(unit: f64) -> Moments {
        let span = |start, end| Span { start, end };
        let device = Job { unit: "dev-vda.device".into(), span: span(15.6, 15.6) };
        Moments {
            initramfs: 3.7,
            switched: 18.7 + unit,
            multi_user: 40.0,
            finished: 40.1,
            program: span(16.8 + unit * 0.5, 16.8 + unit * 0.9),
            process: span(16.8, 16.8 + unit * 0.9),
            unit: span(16.8, 16.8 + unit),
            jobs: vec![device],
        }
    }

    /// The widths of what is drawn in this colour, in pixels.
    fn widths(picture: &str, colour: &str) -> Vec<f64> {
        let bars = picture.lines().filter(|line| line.starts_with("<rect") && line.contains(colour));
        let width = |bar: &str| bar.split_once(" width=\"")?.1.split_once('"')?.0.parse().ok();
        bars.filter_map(width).collect()
    }

    #[test]
    fn parts_are_to_scale() {
        let path = std::env::temp_dir().join(format!("prepare-root-timeline-{}.svg", std::process::id()));
        draw(&path, "A boot", &[("ours", &boot(2.0)), ("libostree", &boot(4.0))]).unwrap();
        let picture = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        // The unit in both boots and the legend, the program in both and in the legend.
        let [ours, libostree, _, program, other, _] = widths(&picture, "#D62728")[..] else {
            panic!("{picture}")
        };
        let kernel = widths(&picture, "#A0A0A0");
        let near = |a: f64, b: f64| (a - b).abs() <= 2.0;
        assert!(near(ours / kernel[0], 2.0 / 3.7) && near(ours * 2.0, libostree), "{ours} {libostree}");
        assert!(near(program * 2.0, other) && program > ours * 2.0, "{program} {other}");
        assert_eq!(picture.lines().filter(|line| *line == "libostree").count(), 4, "two bars, two legends");
    }

    #[test]
    fn what_is_in_no_order_is_not_drawn() {
        let mut wrong = boot(2.0);
        wrong.switched = 10.0;
        assert!(boot_times(&wrong).is_err());
        wrong.program.end = 60.0;
        assert!(unit_times(&wrong).is_err());
    }
}
