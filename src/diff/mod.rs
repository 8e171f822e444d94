//! Diff: how two images or reports differ. Two sides go in, wherever they are from, a model comes out, and views of it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow};

use crate::cli::diff::Format;
use crate::exit::{Exit, Hint};
use crate::progress::Fact;
use crate::report::file::{Document, recognise, to_json};
use crate::report::show::Style;
use crate::store::Image;
use crate::xray;

mod budget;
mod compare;
mod csv;
mod files;
mod image;
mod markdown;
pub mod model;
mod packages;
mod peers;
mod plan;
mod report;
mod show;
mod side;

pub use model::Diff;
pub use plan::{DiffPlan, plan};

use plan::Subject;
use side::Side;

/// Compares what is meant.
///
/// # Errors
/// When one of the two is not there, damaged, or of a kind that is not known.
pub async fn diff(plan: &DiffPlan) -> Result<Diff> {
    // What is wrong with a file is said before images are fetched.
    let before = opened(&plan.before)?;
    let after = opened(&plan.after)?;
    let before = fetched(before).await?;
    let after = fetched(after).await?;
    let monitor = [&plan.before, &plan.after].into_iter().find_map(|subject| match subject {
        Subject::Image(image) => Some(image.access.monitor.clone()),
        Subject::File(_) => None,
    });
    if let Some(monitor) = &monitor {
        monitor.tell(Fact::Phase { name: "compare", detail: "every layer is read, and compressed where nobody says its size".into() });
    }
    let stop = Stop::default();
    let stopped = stop.0.clone();
    let [before, after] = tokio::task::spawn_blocking(move || sides([before, after], &stopped)).await.context("read the images")??;
    let mut diff = compare::compare(&before, &after, &plan.only);
    diff.budgets = budget::standings(&plan.rules, &before, &after);
    if let Some(monitor) = &monitor {
        monitor.tell(Fact::PhaseDone { name: "compare", detail: String::new() });
    }
    Ok(diff)
}

/// What goes on ends when nobody waits for it any more.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A side on its way.
enum Opened<'a> {
    Known(Box<Side>),
    Image(&'a xray::XrayPlan),
}

/// A side that can be read.
enum Fetched {
    Known(Box<Side>),
    Image(String, Box<Image>),
}

fn opened(subject: &Subject) -> Result<Opened<'_>> {
    match subject {
        Subject::File(path) => Ok(Opened::Known(Box::new(of_file(path, &subject.given())?))),
        Subject::Image(plan) => Ok(Opened::Image(plan)),
    }
}

fn of_file(path: &Path, given: &str) -> Result<Side> {
    let what = || format!("read the report {given}");
    let bytes = std::fs::read(path).with_context(what)?;
    // The ends of a tar and of a compressed one, which are often taken for reports.
    if bytes.get(257..262) == Some(b"ustar") || bytes.starts_with(&[0x1f, 0x8b]) || bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let hint = Hint::new(format!("say what is in it: docker-archive:{given} or oci-archive:{given}"));
        return Err(anyhow!("{given} is an archive, no report")).context(Exit::Usage).context(hint);
    }
    match recognise(&bytes).with_context(what)? {
        Document::Report(known) => Ok(report::side(given, *known, &bytes)),
        Document::SlimToolkit(value) => peers::slimtoolkit(given, value, path),
        Document::Xray(value) => peers::xray(given, value),
    }
}

async fn fetched(opened: Opened<'_>) -> Result<Fetched> {
    match opened {
        Opened::Known(side) => Ok(Fetched::Known(side)),
        Opened::Image(plan) => {
            let monitor = &plan.access.monitor;
            monitor.tell(Fact::Phase { name: "read", detail: plan.text.clone() });
            let image = xray::open(plan).await?;
            monitor.tell(Fact::PhaseDone { name: "read", detail: String::new() });
            Ok(Fetched::Image(plan.text.clone(), Box::new(image)))
        }
    }
}

/// Reads both, and compresses what nobody has compressed, at the same time. Blocks.
fn sides(both: [Fetched; 2], stop: &AtomicBool) -> Result<[Side; 2]> {
    let images: Vec<Image> = both.iter().filter_map(|side| match side {
        Fetched::Image(_, image) => Some(image.as_ref().clone()),
        Fetched::Known(_) => None,
    }).collect();
    std::thread::scope(|scope| {
        let gzipped = scope.spawn(|| image::gzipped(&images.iter().collect::<Vec<_>>(), stop));
        let reading = both.map(|side| {
            scope.spawn(move || match side {
                Fetched::Known(side) => Ok((*side, false)),
                Fetched::Image(given, image) => {
                    let side = image::side(&given, &image).with_context(|| format!("read {given}"))?;
                    Ok::<_, anyhow::Error>((side, true))
                }
            })
        });
        let mut sides = Vec::new();
        for thread in reading {
            sides.push(thread.join().map_err(|_| anyhow!("an image could not be read"))?);
        }
        let gzipped = gzipped.join().map_err(|_| anyhow!("the layers could not be compressed"))?;
        let sides = sides.into_iter().collect::<Result<Vec<_>>>()?;
        let gzipped = gzipped?;
        let weighed = sides.into_iter().map(|(mut side, is_image)| {
            if is_image {
                image::weigh(&mut side, &gzipped);
            }
            side
        });
        let sides: Vec<Side> = weighed.collect();
        sides.try_into().map_err(|_| anyhow!("two sides are compared"))
    })
}

impl Diff {
    /// The model in a format.
    pub fn tell(&self, plan: &DiffPlan, style: Style) -> String {
        match plan.format {
            Format::Text => show::show(self, plan.top, style),
            Format::Markdown => markdown::markdown(self, plan.top.unwrap_or(plan::TOP)),
            Format::Json => to_json(&self.cut(plan.top.unwrap_or(plan::TOP_JSON))),
            Format::Csv => csv::csv(self, plan.top.unwrap_or(usize::MAX)),
        }
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        match self.budgets.iter().all(|standing| standing.kept) {
            true => Exit::Done,
            false => Exit::Gate,
        }
    }

    /// With so many entries of each long list; how many more there are is in it.
    fn cut(&self, top: usize) -> Self {
        let mut cut = self.clone();
        if let Some(files) = &mut cut.files {
            for list in [&mut files.added, &mut files.changed, &mut files.removed] {
                list.more = list.list.len().saturating_sub(top) as u64;
                list.list.truncate(top);
            }
        }
        if let Some(packages) = &mut cut.packages {
            packages.more = packages.list.len().saturating_sub(top) as u64;
            packages.list.truncate(top);
        }
        cut
    }
}
