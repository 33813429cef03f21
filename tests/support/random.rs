//! What differs from run to run of the same program, taken out.

use super::mounts::Row;

/// Takes the device number of overlays and of memory out, and the names by which an overlay found its layers: such
/// a path means nothing any more, whichever program wrote it. How many layers there are stays.
pub fn without_random_rows(mut rows: Vec<Row>) -> Vec<Row> {
    for row in &mut rows {
        if ["overlay", "tmpfs"].contains(&row.kind.as_str()) {
            row.device = (0, 0);
        }
        if row.kind != "overlay" {
            continue;
        }
        row.super_options =
            row.super_options.split(',').map(without_layer_names).collect::<Vec<_>>().join(",");
    }
    rows
}

/// One option of an overlay. The kernel shows the lower layers as they were given, all in one option
/// or each in its own, so that here each gets its own.
fn without_layer_names(option: &str) -> String {
    match option.split_once('=') {
        Some(("lowerdir", layers)) => {
            let layers = layers.split(':').filter(|layer| !layer.is_empty());
            layers.map(|_| "lowerdir=?").collect::<Vec<_>>().join(",")
        }
        Some(("lowerdir+" | "datadir+", _)) => "lowerdir=?".to_owned(),
        Some((name @ ("upperdir" | "workdir"), _)) => format!("{name}=?"),
        _ => option.to_owned(),
    }
}

/// Replaces the random end of the name of the folder with the transient `/etc`.
pub fn without_random(text: &str) -> String {
    const NAME: &str = "transient-etc.";
    const RANDOM: &str = "XXXXXX";
    let mut text = text.to_owned();
    let starts: Vec<usize> = text.match_indices(NAME).map(|(at, _)| at + NAME.len()).collect();
    for start in starts {
        text.replace_range(start..start + RANDOM.len(), RANDOM);
    }
    text
}
