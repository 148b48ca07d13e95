//! Pictures made from their files on demand, each file decoded once.

use std::collections::BTreeMap;
use std::path::Path;

use crate::image::{self, Rgb};
use crate::job::Hash;
use crate::job::task::Step;
use crate::report::view::Report;
use crate::report::{Files, format};
use crate::store::findings::Findings;

/// Makes pictures, and remembers what it could not make.
pub(super) struct Shelf<'a> {
    findings: &'a Findings,
    pub(super) files: &'a dyn Files,
    max_pixels: u64,
    /// The file that was decoded last.
    decoded: Option<(Hash, Result<Rgb, String>)>,
    /// The last crop of a file: all rungs of a ladder start from the same one.
    cropped: Option<(Hash, u32, Rgb)>,
    failed: BTreeMap<String, Vec<usize>>,
}

impl<'a> Shelf<'a> {
    pub(super) fn new(findings: &'a Findings, files: &'a dyn Files, max_pixels: u64) -> Self {
        Self { findings, files, max_pixels, decoded: None, cropped: None, failed: BTreeMap::new() }
    }

    /// The picture of an image; none where it cannot be made, which [`Shelf::problems`] then tells.
    pub(super) fn picture(&mut self, idx: usize) -> Option<Rgb> {
        match self.make(idx) {
            Ok(picture) => Some(picture),
            Err(why) => {
                self.fails(idx, why);
                None
            }
        }
    }

    /// What an image is a reconstruction of; none where it is none or cannot be had.
    pub(super) fn original(&mut self, idx: usize) -> Option<Rgb> {
        let original = self.findings.images[idx].original.as_ref()?;
        match self.read(original.picture.content, original.path.as_deref()) {
            Ok(whole) => image::apply(whole, &original.picture.steps).ok(),
            Err(why) => {
                self.fails(idx, format!("of its original, {why}"));
                None
            }
        }
    }

    /// Notes that an image cannot be shown.
    pub(super) fn fails(&mut self, idx: usize, why: String) {
        let images = self.failed.entry(why).or_default();
        if !images.contains(&idx) {
            images.push(idx);
        }
    }

    /// What could not be made, and why.
    pub(super) fn problems(&self, report: &Report) -> Vec<String> {
        let sentence = |(why, images): (&String, &Vec<usize>)| {
            let name = |it: &usize| report.sources[report.images[*it].source].name.as_str();
            match images.as_slice() {
                [only] => format!("{} cannot be shown: {why}.", name(only)),
                [first, others @ ..] => {
                    format!(
                        "{} and {} cannot be shown: {why}.",
                        name(first),
                        format::count(others.len(), "other source")
                    )
                }
                [] => String::new(),
            }
        };
        self.failed.iter().map(sentence).collect()
    }

    fn make(&mut self, idx: usize) -> Result<Rgb, String> {
        let image = &self.findings.images[idx];
        let (content, steps) = (image.content, image.picture.steps.as_slice());
        if let [Step::Crop { size }, rest @ ..] = steps {
            if !matches!(&self.cropped, Some((of, to, _)) if (*of, *to) == (content, *size)) {
                let whole = self.file(content, image.path.as_deref())?.clone();
                let cropped = image::apply(whole, &steps[..1]).map_err(|it| it.to_string())?;
                self.cropped = Some((content, *size, cropped));
            }
            let (_, _, cropped) = self.cropped.as_ref().expect("it was just put there");
            return image::apply(cropped.clone(), rest).map_err(|it| it.to_string());
        }
        let whole = self.file(content, image.path.as_deref())?.clone();
        image::apply(whole, steps).map_err(|it| it.to_string())
    }

    fn file(&mut self, content: Hash, path: Option<&Path>) -> Result<&Rgb, String> {
        if !matches!(&self.decoded, Some((of, _)) if *of == content) {
            self.decoded = Some((content, self.read(content, path)));
        }
        let (_, decoded) = self.decoded.as_ref().expect("it was just put there");
        decoded.as_ref().map_err(Clone::clone)
    }

    fn read(&self, content: Hash, path: Option<&Path>) -> Result<Rgb, String> {
        let path = path.ok_or("its file is not known on this machine")?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let bytes = self.files.read(path).map_err(|it| format!("{name} cannot be read ({it})"))?;
        if Hash::of(&bytes) != content {
            return Err(format!("{name} has changed since it was scored"));
        }
        image::decode(&bytes, self.max_pixels).map_err(|it| format!("{name}: {it}"))
    }
}
