//! `rkbox net repair`: puts back what another hand took out of nftables, from what the journals say that stands.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use crate::cmd::{Context, Format, carry, output};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::network::publish;
use crate::plan::journal;
use crate::script::Script;
use crate::step::{Step, Tenure};
use crate::sys::nft::{Nft, Novelty, Piece};
use crate::sys::{Host, file};

/// Arguments of `rkbox net repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// Only say what is missing; exit status 5 when something is
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print a script that does the same, and do nothing
    #[arg(long, conflicts_with = "dry_run")]
    explain: bool,
}

/// A step of a box that stands, and what it has in nftables.
struct Standing {
    box_id: String,
    index: usize,
    step: Step,
    piece: Piece,
}

/// Restores in one transaction what `nft flush ruleset`, a firewall's reload or the deletion of single chains took; prints each.
pub fn run(cx: &Context, args: &RepairArgs) -> Result<u8> {
    cx.host.at_bridges(|| repair(cx, args))
}

fn repair(cx: &Context, args: &RepairArgs) -> Result<u8> {
    let standing = all(&cx.host)?;
    let pieces: Vec<Piece> = standing.iter().map(|one| one.piece.clone()).collect();
    let mut nft = Nft::open()?;
    if args.explain {
        let missing = nft.find_missing(&pieces)?;
        let text: String = missing.iter().filter_map(|nth| pieces.get(*nth)).map(|piece| piece.text(Novelty::Again)).collect();
        let mut script = Script::new();
        script.comment("restore the rules of rkbox");
        if !text.is_empty() {
            script.feed(["nft", "-f", "-"], &text);
        }
        carry::show(&script);
        return Ok(0);
    }
    let places = if args.dry_run { nft.find_missing(&pieces)? } else { nft.restore(&pieces).doing(|| "restoring the rules")? };
    let phrases: Vec<String> = places.iter().filter_map(|nth| standing.get(*nth)).map(|one| one.step.to_string()).collect();
    if !args.dry_run && !places.is_empty() {
        take_back_the_late(&cx.host, &standing)?;
    }
    let word = if args.dry_run { "missing" } else { "restored" };
    match cx.format {
        Format::Json => output::json(&json!({ word: phrases }))?,
        Format::Table => phrases.iter().for_each(|phrase| output::line(&format!("{word}: {phrase}"))),
    }
    if args.dry_run && !phrases.is_empty() {
        let fault = Fault::new(Kind::FailedPrecondition, format!("{} parts of the rules are missing", phrases.len()));
        return Err(fault.hint("restore them: rkbox net repair"));
    }
    Ok(0)
}

/// What of an attachment or box is missing in nftables, in words.
pub fn missing_of(host: &Host, box_id: &str) -> Result<Vec<String>> {
    let standing = of_box(host, box_id)?;
    let pieces: Vec<Piece> = standing.iter().map(|one| one.piece.clone()).collect();
    let missing = host.at_bridges(|| Ok(Nft::open()?.find_missing(&pieces)?))?;
    let phrase = |nth: &usize| Some(publish::missing(&standing.get(*nth)?.step));
    Ok(missing.iter().filter_map(phrase).collect())
}

/// The steps of all boxes that stand, each once, tables first, then networks, then what belongs to single boxes.
fn all(host: &Host) -> Result<Vec<Standing>> {
    let mut found = Vec::new();
    for name in file::list(&host.journals())? {
        if let Some(box_id) = name.strip_suffix(".jsonl") {
            found.extend(of_box(host, box_id)?);
        }
    }
    let rank = |piece: &Piece| match piece {
        Piece::MasqueradeTable | Piece::PortTable | Piece::SpoofTable => 0,
        Piece::MasqueradeNetwork { .. } | Piece::Fence(_) | Piece::Hairpin(_) => 1,
        _ => 2,
    };
    found.sort_by_key(|one| rank(&one.piece));
    let mut seen = BTreeSet::new();
    found.retain(|one| one.step.tenure() == Tenure::Private || seen.insert(serde_json::to_string(&one.step).unwrap_or_default()));
    Ok(found)
}

fn of_box(host: &Host, box_id: &str) -> Result<Vec<Standing>> {
    let status = journal::read(&journal::path(host, box_id)).doing(|| format!("reading the journal of {box_id}"))?;
    let Some(status) = status else { return Ok(Vec::new()) };
    if !status.settled {
        return Ok(Vec::new());
    }
    let standing = status.standing().filter_map(|(index, step, _)| {
        let piece = step.piece()?;
        Some(Standing { box_id: box_id.to_owned(), index, step: step.clone(), piece })
    });
    Ok(standing.collect())
}

/// What was taken down while it was restored goes again.
fn take_back_the_late(host: &Host, restored: &[Standing]) -> Result<()> {
    let now: BTreeSet<(String, usize)> = all(host)?.into_iter().map(|one| (one.box_id, one.index)).collect();
    for one in restored.iter().filter(|one| one.step.tenure() == Tenure::Private) {
        if !now.contains(&(one.box_id.clone(), one.index)) {
            one.step.undo(&one.step.before_nothing()?, host)?;
        }
    }
    Ok(())
}
