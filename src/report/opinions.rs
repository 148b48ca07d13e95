//! What people and machine judges say of a sweep's pictures, put beside what metrics say.

mod choices;
mod correlation;

use std::collections::HashMap;

use super::view::{By, Column, Entrant, ImageRow, Opinions, SourceRow};
use crate::job::Hash;
use crate::job::task::{Picture, Step};
use crate::labels::agreement::agreement;
use crate::labels::{Area, Judge, JudgeKind};
use crate::stats::bootstrap::Bootstrap;
use crate::store::findings::Findings;

/// The parts of a report that opinions are about.
pub(super) struct Scene<'a> {
    pub(super) findings: &'a Findings,
    pub(super) sources: &'a [SourceRow],
    pub(super) entrants: &'a [Entrant],
    pub(super) images: &'a [ImageRow],
    pub(super) metrics: &'a [Column],
    /// The first image of each picture.
    place: HashMap<Hash, usize>,
    /// The image of each part of a picture that is an image of its own, by the picture's key.
    patches: HashMap<(Hash, Area), usize>,
    /// Of such an image: the picture that it is a part of.
    whole_of: HashMap<usize, Hash>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        findings: &'a Findings,
        sources: &'a [SourceRow],
        entrants: &'a [Entrant],
        images: &'a [ImageRow],
        metrics: &'a [Column],
    ) -> Self {
        let mut place = HashMap::new();
        for (idx, it) in images.iter().enumerate() {
            place.entry(it.key).or_insert(idx);
        }
        let (mut patches, mut whole_of) = (HashMap::new(), HashMap::new());
        for (idx, it) in findings.images.iter().enumerate() {
            if let Some((whole, area)) = patch(&it.picture) {
                patches.entry((whole, area)).or_insert(idx);
                whole_of.insert(idx, whole);
            }
        }
        Self { findings, sources, entrants, images, metrics, place, patches, whole_of }
    }

    /// The image of a part of a picture.
    fn patch(&self, picture: &Hash, area: Area) -> Option<usize> {
        self.patches.get(&(*picture, area)).copied()
    }

    /// The sample of an image; of a part, that of the picture that it is a part of.
    fn sample(&self, image: usize) -> &'a str {
        let whole = self.whole_of.get(&image).and_then(|it| self.image(it));
        &self.images[whole.unwrap_or(image)].sample
    }

    /// The image of a picture.
    fn image(&self, picture: &Hash) -> Option<usize> {
        self.place.get(picture).copied()
    }

    /// What a source is called among sides: its entrant, or itself.
    fn side_of(&self, source: usize) -> &str {
        let entrant = self.entrants.iter().find(|it| it.sources.contains(&source));
        entrant.map_or(&self.sources[source].name, |it| &it.name)
    }

    /// The side that a model's name means.
    fn side_named(&self, name: &str) -> String {
        let entrant = self.entrants.iter().find(|it| it.name == name || it.model.as_deref() == Some(name));
        entrant.map_or_else(|| name.to_owned(), |it| it.name.clone())
    }

    /// Where a side stands among others: entrants in their order, then the rest by name.
    fn order_of(&self, side: &str) -> (usize, String) {
        let place = self.entrants.iter().position(|it| it.name == side).unwrap_or(usize::MAX);
        (place, side.to_owned())
    }
}

/// The key of the picture that this one is a part of, and which part.
pub(super) fn patch(picture: &Picture) -> Option<(Hash, Area)> {
    let (Step::Patch { x, y, width, height }, steps) = picture.steps.split_last()? else { return None };
    let whole = Picture { steps: steps.to_vec(), ..picture.clone() };
    Some((whole.key(), Area { x: *x, y: *y, width: *width, height: *height }))
}

/// All that was said; none where nothing was.
pub(super) fn opinions(scene: &Scene, bootstrap: &Bootstrap) -> Option<Opinions> {
    let findings = scene.findings;
    if findings.ratings.is_empty() && findings.verdicts.is_empty() {
        return None;
    }
    let (correlations, mut unused) = correlation::tables(scene, bootstrap);
    let said = choices::said(scene);
    if said.n_elsewhere > 0 {
        unused.push((said.n_elsewhere, "choices of pictures that are not in this report".to_owned()));
    }
    Some(Opinions {
        correlations,
        preferences: choices::preferences(&said, bootstrap),
        strengths: choices::strengths(&said, bootstrap),
        judges: choices::judges(&findings.verdicts, bootstrap.level),
        agreement: agreement(&findings.ratings, &findings.verdicts, bootstrap),
        unused,
    })
}

/// People count together, machines each by itself.
fn by(judge: &Judge) -> By {
    let name = match (judge.kind, judge.variant.as_str()) {
        (JudgeKind::Human, _) => "people".to_owned(),
        (JudgeKind::Machine, "") => judge.name.clone(),
        (JudgeKind::Machine, variant) => format!("{} ({variant})", judge.name),
    };
    By { kind: judge.kind, name }
}
