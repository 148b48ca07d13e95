//! The names of blocks: each once, each reference to one resolved.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::block::{Block, Placed, listed, meant};
use super::super::fault::Collector;
use super::super::{Of, order};
use super::UNRESOLVED;
use super::damage::Draft;

/// Which block each name stands for.
pub(super) struct Names {
    blocks: BTreeMap<String, (Named, Range<usize>)>,
}

/// What has a name.
#[derive(Clone, Copy)]
enum Named {
    /// Pictures that damage may be done to.
    Of(Of),
    /// Pictures that a model makes: the block's title.
    Made(&'static str),
}

impl Names {
    /// Takes down every name that two blocks have.
    pub(super) fn new(images: &[Block], damage: &[Draft], made: &[&[Block]], faults: &Collector) -> Self {
        let mut names = Self { blocks: BTreeMap::new() };
        for (idx, block) in images.iter().enumerate() {
            // A name of the wrong type is taken down where the block is read.
            if let Some(name) = block.get("name").and_then(|it| Some((it.get_ref().as_str()?, it.span()))) {
                names.add(name.0, name.1, Named::Of(Of::Images(idx)), faults);
            }
        }
        for (idx, draft) in damage.iter().enumerate() {
            if let Some(name) = &draft.name {
                names.add(&name.value, name.span.clone(), Named::Of(Of::Damage(idx)), faults);
            }
        }
        for block in made.iter().copied().flatten() {
            if let Some(name) = block.get("name").and_then(|it| Some((it.get_ref().as_str()?, it.span()))) {
                names.add(name.0, name.1, Named::Made(block.title), faults);
            }
        }
        names
    }

    fn add(&mut self, name: &str, span: Range<usize>, block: Named, faults: &Collector) {
        let Some((_, first)) = self.blocks.get(name) else {
            self.blocks.insert(name.to_owned(), (block, span));
            return;
        };
        let places = vec![(span, "here".to_owned()), (first.clone(), "and here".to_owned())];
        faults.at_all(places, format!("two blocks are called `{name}`"), "give one of them another `name`".to_owned());
    }

    /// What each block of damage is made of; takes down unknown names and cycles.
    pub(super) fn resolve(&self, damage: &[Draft], faults: &Collector) -> Vec<Of> {
        let of: Vec<Of> = damage
            .iter()
            .map(|it| it.of.as_ref().and_then(|of| self.block(of, faults)).unwrap_or(UNRESOLVED))
            .collect();
        for cycle in order(&of).1 {
            let name = |idx: usize| damage[idx].name.as_ref().map_or("", |it| it.value.as_str());
            let places = cycle
                .iter()
                .map(|&idx| {
                    let of = damage[idx].of.clone().unwrap_or_default();
                    (of.span, format!("`{}` is made of `{}`", name(idx), of.value))
                })
                .collect();
            let mut path: Vec<&str> = cycle.iter().map(|&it| name(it)).collect();
            path.push(name(cycle[0]));
            let path = path.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(" of ");
            let help = "damage begins with the pictures of an [[images]] block".to_owned();
            faults.at_all(places, format!("a cycle: {path}"), help);
        }
        of
    }

    /// The block that a name stands for.
    fn block(&self, name: &Placed<String>, faults: &Collector) -> Option<Of> {
        match self.blocks.get(&name.value).map(|it| it.0) {
            Some(Named::Of(of)) => Some(of),
            Some(Named::Made(title)) => {
                let message =
                    format!("`{}` is a {title} block; damage is done to [[images]] and [[damage]]", name.value);
                faults.at(&name.span, message, self.help("", is_damageable));
                None
            }
            None => {
                let help = self.help(&name.value, is_damageable);
                faults.at(&name.span, format!("no block is called `{}`", name.value), help);
                None
            }
        }
    }

    /// The `[[images]]` block that a name stands for; `use_of` begins the sentence that another block is answered with.
    pub(super) fn images(&self, name: &Placed<String>, use_of: &str, faults: &Collector) -> Option<usize> {
        match self.blocks.get(&name.value) {
            Some((Named::Of(Of::Images(idx)), _)) => Some(*idx),
            Some((other, _)) => {
                let what = match other {
                    Named::Of(_) => "damage".to_owned(),
                    Named::Made(title) => format!("a {title} block"),
                };
                let message = format!("`{}` is {what}; {use_of} an [[images]] block", name.value);
                faults.at(&name.span, message, self.help("", is_images));
                None
            }
            None => {
                let help = self.help(&name.value, is_images);
                faults.at(&name.span, format!("no [[images]] block is called `{}`", name.value), help);
                None
            }
        }
    }

    /// Takes down a name that no block with pictures has; `use_of` begins the sentence that another block is answered with.
    pub(super) fn check_pictures(&self, name: &Placed<String>, use_of: &str, faults: &Collector) {
        match self.blocks.get(&name.value).map(|it| it.0) {
            Some(Named::Made(title)) if !has_pictures(Named::Made(title)) => {
                let message = format!("`{}` is a {title} block; {use_of} other blocks", name.value);
                faults.at(&name.span, message, self.help("", has_pictures));
            }
            Some(_) => {}
            None => {
                let help = self.help(&name.value, has_pictures);
                faults.at(&name.span, format!("no block is called `{}`", name.value), help);
            }
        }
    }

    fn help(&self, name: &str, fits: impl Fn(Named) -> bool) -> Option<String> {
        let names: Vec<&str> = self.blocks.iter().filter(|it| fits(it.1.0)).map(|it| it.0.as_str()).collect();
        let point = names.iter().filter(|&&it| name.strip_prefix(it).is_some_and(|rest| rest.starts_with(' ')));
        if let Some(block) = point.max_by_key(|it| it.len()) {
            return Some(format!("name the block, not one point of it: `{block}`"));
        }
        let listing = || (!names.is_empty()).then(|| format!("there is {}", listed(&names)));
        meant(name, names.iter().copied()).or_else(listing)
    }
}

fn is_images(block: Named) -> bool {
    matches!(block, Named::Of(Of::Images(_)))
}

fn is_damageable(block: Named) -> bool {
    matches!(block, Named::Of(_))
}

fn has_pictures(block: Named) -> bool {
    match block {
        Named::Of(_) => true,
        Named::Made(title) => ["[[generate]]", "[[reconstruct]]"].contains(&title),
    }
}
