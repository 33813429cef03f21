//! `docs/benchmarks.svg`: bars for time, system calls and bytes.

use crate::measure::{Outcome, as_float};
use crate::program::Program;
use crate::support::failure::{Context, Result};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// A group of bars.
pub struct Group<'a> {
    pub name: &'a str,
    pub outcome: &'a Outcome,
}

/// A column of bars: what they show, and how a number is written.
struct Column<'a> {
    title: &'a str,
    value: &'a dyn Fn(&Outcome, Program) -> Option<f64>,
    label: fn(f64) -> String,
}

const SHOWN: [Program; 4] = [Program::Ours, Program::Forky, Program::Trixie, Program::Floor];
const WIDTH: i32 = 800;
/// Of the names before the bars, and of each column.
const NAMES: i32 = 130;
const COLUMN: i32 = 222;
/// Of the number behind a bar.
const NUMBER: i32 = 66;
const ROW: i32 = 22;
const BAR: i32 = 14;
const HEAD: i32 = 34;
const GROUP: i32 = 26;

/// Draws the groups, with three columns; bytes are those of programs and libraries.
pub fn draw(path: &Path, groups: &[Group], bytes: &dyn Fn(Program) -> Option<f64>) -> Result<()> {
    let calls = |outcome: &Outcome, program| {
        outcome.of(program).and_then(|it| i64::try_from(it.calls.len()).ok()).map(as_float)
    };
    let columns = [
        Column {
            title: "time from exec to exit",
            value: &|outcome, program| outcome.of(program).map(|it| as_float(it.wall().median) / 1e6),
            label: |milliseconds| format!("{milliseconds:.2} ms"),
        },
        Column { title: "system calls", value: &calls, label: |calls| format!("{calls:.0}") },
        Column {
            title: "bytes, with libraries",
            value: &|outcome, program| outcome.of(program).and_then(|_| bytes(program)),
            label: |bytes| {
                if bytes < 1e6 { format!("{:.0} kB", bytes / 1e3) } else { format!("{:.1} MB", bytes / 1e6) }
            },
        },
    ];
    let rows = |group: &Group| {
        SHOWN.into_iter().filter(|program| group.outcome.of(*program).is_some()).collect::<Vec<_>>()
    };
    let height =
        groups.iter().map(|group| GROUP + ROW * i32::try_from(rows(group).len()).unwrap_or(0)).sum::<i32>();
    let size = (WIDTH.unsigned_abs(), (HEAD + height + 10).unsigned_abs());
    let area = SVGBackend::new(path, size).into_drawing_area();
    let draw = || -> std::result::Result<(), Box<dyn std::error::Error>> {
        area.fill(&WHITE)?;
        let text = |text: &str, x: i32, y: i32, bold: bool| {
            let font = ("sans-serif", 15).into_font();
            let font = if bold { font.style(FontStyle::Bold) } else { font };
            let style =
                TextStyle::from(font).color(&RGBColor(30, 30, 30)).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(text.to_owned(), (x, y), style))
        };
        for (column, left) in columns.iter().zip((0..).map(|column| NAMES + COLUMN * column)) {
            text(column.title, left, HEAD / 2, true)?;
            let values =
                groups.iter().flat_map(|group| SHOWN.map(|program| (column.value)(group.outcome, program)));
            let most = values.flatten().fold(0.0, f64::max);
            let mut y = HEAD;
            for group in groups {
                y += GROUP;
                for program in rows(group) {
                    let value = (column.value)(group.outcome, program).unwrap_or(0.0);
                    let length = round(f64::from(COLUMN - NUMBER) * value / most).max(1);
                    let middle = y + ROW / 2;
                    let bar = [(left, middle - BAR / 2), (left + length, middle + BAR / 2)];
                    area.draw(&Rectangle::new(bar, colour(program).filled()))?;
                    text(&(column.label)(value), left + length + 5, middle, program == Program::Ours)?;
                    y += ROW;
                }
            }
        }
        let mut y = HEAD;
        for group in groups {
            text(group.name, 10, y + GROUP / 2, true)?;
            y += GROUP;
            for program in rows(group) {
                text(program.name(), 10, y + ROW / 2, program == Program::Ours)?;
                y += ROW;
            }
        }
        Ok(area.present()?)
    };
    draw().context(format!("draw {}", path.display()))
}

fn colour(program: Program) -> RGBColor {
    match program {
        Program::Ours => RGBColor(31, 111, 197),
        Program::Forky => RGBColor(217, 126, 38),
        Program::Trixie => RGBColor(238, 178, 112),
        Program::Floor | Program::Nothing => RGBColor(140, 140, 140),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "no bar is longer than the picture")]
fn round(number: f64) -> i32 {
    number.round() as i32
}
