//! Sum: what a batch came to, in figures.
//!
//! A host that has several images has each of their layers once. One image of one layer shares nothing, so that
//! several small ones can take more together than the originals that share a base; only this sum shows it.

use std::collections::BTreeMap;

use crate::exit::Exit;
use crate::report::model::Image;
use crate::ui::batch::{Outcome, Sum, Unique};

/// Counts.
pub fn sum(outcomes: Vec<Outcome>, exit: Exit) -> Sum {
    let good: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.exit == Exit::Done).collect();
    let mut layers = (BTreeMap::new(), BTreeMap::new());
    let (mut counted, mut unknown) = (0, Vec::new());
    for outcome in &good {
        match (layers_of(outcome.source.as_ref()), layers_of(outcome.result.as_ref())) {
            (Some(before), Some(after)) => {
                layers.0.extend(before);
                layers.1.extend(after);
                counted += 1;
            }
            _ => unknown.push(outcome.name.clone()),
        }
    }
    let bytes = |layers: &BTreeMap<String, u64>| layers.values().sum();
    let unique = (counted > 0).then(|| Unique { images: counted, before: bytes(&layers.0), after: bytes(&layers.1) });
    Sum { outcomes, unique, unknown, exit }
}

fn layers_of(image: Option<&Image>) -> Option<Vec<(String, u64)>> {
    let layers = image?.layer_list.as_ref()?;
    Some(layers.iter().map(|layer| (layer.diff_id.clone(), layer.bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::VerdictKind;
    use crate::report::model::Layer;
    use crate::ui::batch::State;

    fn image(layers: &[(&str, u64)]) -> Option<Image> {
        let layer = |(diff_id, bytes): &(&str, u64)| Layer { diff_id: (*diff_id).into(), bytes: *bytes };
        Some(Image { layer_list: Some(layers.iter().map(layer).collect()), ..Image::default() })
    }

    fn good(name: &str, source: Option<Image>, result: Option<Image>) -> Outcome {
        let state = State::Verdict(VerdictKind::Verified, "VERIFIED".into());
        Outcome { source, result, exit: Exit::Done, ..Outcome::new(name, state) }
    }

    #[test]
    fn a_layer_that_several_images_have_counts_once() {
        let outcomes = vec![
            good("a", image(&[("base", 100), ("a", 1)]), image(&[("slim-a", 60)])),
            good("b", image(&[("base", 100), ("b", 2)]), image(&[("slim-b", 60)])),
        ];
        let sum = sum(outcomes, Exit::Done);
        assert_eq!(sum.unique, Some(Unique { images: 2, before: 103, after: 120 }));
    }

    #[test]
    fn what_is_not_known_is_said_and_what_failed_is_not_counted() {
        let failed = Outcome { source: image(&[("f", 9)]), ..Outcome::new("f", State::Failed("no".into())) };
        let unsized_source = Image { layer_list: None, ..Image::default() };
        let outcomes = vec![failed, good("a", Some(unsized_source), image(&[("slim-a", 6)])), good("b", None, None)];
        let sum = sum(outcomes, Exit::Failed);
        assert_eq!((sum.unique, sum.unknown), (None, vec!["a".to_owned(), "b".to_owned()]));
    }
}
