//! `rkbox image history`.

use clap::Args;
use oci_spec::image::History;
use serde_json::json;

use super::ls::{ago, human_size};
use super::store::{self, Image, LayerRef};
use crate::cmd::{Context, Format, output};
use crate::fault::{Context as _, Result};

/// Arguments of `rkbox image history`.
#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// Name, id or unique start of an id
    pub image: String,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Print whole ids and commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Sizes and times for people; --human=false prints bytes and dates
    #[arg(short = 'H', long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value_t = true, default_missing_value = "true", value_name = "BOOL", hide_default_value = true, hide_possible_values = true)]
    pub human: bool,
}

/// The longest command that is printed whole without `--no-trunc`, in characters.
const COMMAND_WIDTH: usize = 45;

/// One step of the making of an image.
struct Row<'a> {
    id: Option<&'a str>,
    history: Option<&'a History>,
    layer: Option<&'a LayerRef>,
}

/// Prints how the image was made, newest step first, as `docker history` does; sizes are those of the stored layers.
pub fn run(cx: &Context, args: &HistoryArgs) -> Result<u8> {
    let image = store::find(&cx.host, &args.image).doing(|| "cannot print a history")?;
    let rows = rows(&image);
    if cx.format == Format::Json {
        output::json(&rows.iter().map(object).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let id = |row: &Row<'_>| match row.id {
        Some(id) if args.no_trunc => id.to_owned(),
        Some(_) => image.short().to_owned(),
        None => "<missing>".to_owned(),
    };
    if args.quiet {
        rows.iter().for_each(|row| output::line(&id(row)));
        return Ok(0);
    }
    let cells = |row: &Row<'_>| vec![id(row), created(row, args), command(row, args), size(row, args), comment(row).to_owned()];
    output::table(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], &rows.iter().map(cells).collect::<Vec<_>>());
    Ok(0)
}

/// Joins the history with the layers: an entry that is not empty has the next one. What has no entry comes as a row of its own.
fn rows(image: &Image) -> Vec<Row<'_>> {
    let history: &[History] = image.config.history().as_deref().unwrap_or_default();
    let mut layers = image.layers.iter();
    let mut rows: Vec<Row<'_>> = Vec::new();
    for entry in history {
        let layer = if entry.empty_layer().unwrap_or(false) { None } else { layers.next() };
        rows.push(Row { id: None, history: Some(entry), layer });
    }
    rows.extend(layers.map(|layer| Row { id: None, history: None, layer: Some(layer) }));
    if let Some(last) = rows.last_mut() {
        last.id = Some(&image.id);
    }
    rows.reverse();
    rows
}

fn object(row: &Row<'_>) -> serde_json::Value {
    let text = |of: fn(&History) -> &Option<String>| row.history.and_then(|history| of(history).as_deref());
    json!({
        "id": row.id, "created": text(History::created), "created_by": text(History::created_by).unwrap_or_default(),
        "size": row.layer.map_or(0, |layer| layer.size), "comment": comment(row), "empty_layer": row.layer.is_none(),
        "layer": row.layer.map(|layer| &layer.digest), "diff_id": row.layer.map(|layer| &layer.diff_id),
    })
}

fn created(row: &Row<'_>, args: &HistoryArgs) -> String {
    let text = row.history.and_then(|history| history.created().as_deref());
    match text {
        Some(text) if args.human => ago(text, jiff::Timestamp::now()),
        Some(text) => text.to_owned(),
        None => "N/A".to_owned(),
    }
}

fn command(row: &Row<'_>, args: &HistoryArgs) -> String {
    let text = row.history.and_then(|history| history.created_by().as_deref()).unwrap_or_default().replace(['\t', '\n'], " ");
    if args.no_trunc || text.chars().count() <= COMMAND_WIDTH {
        return text;
    }
    text.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect()
}

fn size(row: &Row<'_>, args: &HistoryArgs) -> String {
    let bytes = row.layer.map_or(0, |layer| layer.size);
    if args.human { human_size(bytes) } else { bytes.to_string() }
}

fn comment<'a>(row: &Row<'a>) -> &'a str {
    row.history.and_then(|history| history.comment().as_deref()).unwrap_or_default()
}
