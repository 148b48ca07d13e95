//! Prepared pictures and encoded captions as training wants them: found by their keys, read when they are shown.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, anyhow};
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor};

use super::TaskError;
use super::inputs::Inputs;
use super::latents::{About, KEY, name};
use crate::job::Hash;
use crate::job::task::finetune::Shown;
use crate::models::text::Encoded;
use crate::train::checkpoint::about;
use crate::train::feed::{Example, Examples};
use crate::train::pictures::Squares;

/// So many bytes of tensors stay in memory between the passes.
const MOST_KEPT: usize = 2 << 30;

/// What a run is shown.
pub(super) struct Shards<'a> {
    inputs: &'a Inputs,
    /// Each file and how many views it has of a picture.
    files: Vec<(MmapedSafetensors, u32)>,
    items: Vec<Item>,
    left_out: Vec<(Hash, String)>,
    shapes: Vec<Vec<usize>>,
    kept: RefCell<Kept>,
}

/// A picture, or one view of it.
struct Item {
    content: Hash,
    file: usize,
    place: usize,
    /// None is another view in each pass.
    view: Option<u32>,
    text: Option<Hash>,
    /// Which of the run's shapes it has.
    shape: usize,
}

#[derive(Default)]
struct Kept {
    /// By file, place and view.
    squares: HashMap<(usize, usize, u32), Tensor>,
    texts: HashMap<Hash, (Tensor, Tensor)>,
    n_bytes: usize,
}

impl Kept {
    /// Whether these may stay as well.
    fn has_room(&mut self, tensors: &[&Tensor]) -> bool {
        let n: usize = tensors.iter().map(|it| it.elem_count() * it.dtype().size_in_bytes()).sum();
        let fits = self.n_bytes + n <= MOST_KEPT;
        self.n_bytes += if fits { n } else { 0 };
        fits
    }
}

impl<'a> Shards<'a> {
    /// Opens the files of the jobs that prepared the pictures. With `by_view` every view is an example, else every
    /// picture is, and each pass shows its next view.
    ///
    /// # Errors
    /// A file is gone or damaged, or there are not as many captions as pictures.
    pub(super) fn open(shown: &Shown, inputs: &'a Inputs, by_view: bool) -> Result<Self, TaskError> {
        let (files, items, left_out) = (Vec::new(), Vec::new(), Vec::new());
        let mut shards = Self { inputs, files, items, left_out, shapes: Vec::new(), kept: RefCell::default() };
        let mut n_pictures = 0;
        for key in &shown.shards {
            let path = inputs.path(key)?;
            n_pictures += shards.add(&path, shown, n_pictures, by_view).map_err(TaskError::Fatal)?;
        }
        if !shown.texts.is_empty() && shown.texts.len() != n_pictures {
            let n_texts = shown.texts.len();
            return Err(TaskError::Fatal(anyhow!("there are {n_pictures} pictures and {n_texts} captions")));
        }
        Ok(shards)
    }

    /// Adds a file whose first picture is the run's `first`; returns how many it has.
    fn add(&mut self, path: &Path, shown: &Shown, first: usize, by_view: bool) -> anyhow::Result<usize> {
        let said = about(path, KEY).with_context(|| format!("{} holds no prepared pictures", path.display()))?;
        let said: About = serde_json::from_str(&said).with_context(|| format!("understand {}", path.display()))?;
        #[expect(unsafe_code, reason = "nothing changes the store's files: whoever does breaks only this process")]
        let mapped = unsafe { MmapedSafetensors::new(path) }.with_context(|| format!("read {}", path.display()))?;
        let file = self.files.len();
        self.files.push((mapped, said.views));
        for (place, content) in said.pictures.iter().enumerate() {
            if let Some(why) = said.left_out.get(&place) {
                self.left_out.push((*content, why.clone()));
                continue;
            }
            let text = shown.texts.get(first + place).copied();
            let found =
                self.files[file].0.get(&name(place, 0)).context("find a picture's first view")?.shape().to_vec();
            let shape = self.shapes.iter().position(|it| *it == found).unwrap_or_else(|| {
                self.shapes.push(found);
                self.shapes.len() - 1
            });
            let views: Vec<Option<u32>> = if by_view { (0..said.views).map(Some).collect() } else { vec![None] };
            self.items.extend(views.into_iter().map(|view| Item { content: *content, file, place, view, text, shape }));
        }
        Ok(said.pictures.len())
    }

    /// How many examples there are.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Pictures that could not be decoded, and why.
    pub(super) fn left_out(&self) -> &[(Hash, String)] {
        &self.left_out
    }

    /// One square as it was prepared.
    fn prepared(&self, idx: usize, pass: usize) -> anyhow::Result<Tensor> {
        let it = &self.items[idx];
        let (file, n_views) = &self.files[it.file];
        let view = it.view.unwrap_or((pass % *n_views as usize) as u32);
        let at = (it.file, it.place, view);
        if let Some(known) = self.kept.borrow().squares.get(&at) {
            return Ok(known.clone());
        }
        let tensor = file.load(&name(it.place, view), &Device::Cpu)?;
        let mut kept = self.kept.borrow_mut();
        if kept.has_room(&[&tensor]) {
            kept.squares.insert(at, tensor.clone());
        }
        Ok(tensor)
    }

    /// A caption's states and its pooled form.
    fn text(&self, key: &Hash) -> anyhow::Result<(Tensor, Tensor)> {
        if let Some(known) = self.kept.borrow().texts.get(key) {
            return Ok(known.clone());
        }
        let Encoded { context, pooled, .. } = Encoded::from_bytes(&self.inputs.read(key)?)?;
        let mut kept = self.kept.borrow_mut();
        if kept.has_room(&[&context, &pooled]) {
            kept.texts.insert(*key, (context.clone(), pooled.clone()));
        }
        Ok((context, pooled))
    }

    /// What people find a picture by.
    fn called(&self, idx: usize) -> String {
        let it = &self.items[idx];
        let view = it.view.map(|it| format!(" (view {it})")).unwrap_or_default();
        format!("{}{view}", it.content.short())
    }
}

impl Examples for Shards<'_> {
    fn count(&self) -> usize {
        self.items.len()
    }

    fn example(&self, idx: usize, pass: usize) -> anyhow::Result<Example> {
        let text = self.items[idx].text.context("a picture without a caption")?;
        let (context, pooled) = self.text(&text)?;
        Ok(Example { latent: self.prepared(idx, pass)?, context, pooled })
    }

    fn name(&self, idx: usize) -> String {
        self.called(idx)
    }

    fn class(&self, idx: usize) -> usize {
        self.items[idx].shape
    }

    fn picture(&self, idx: usize) -> String {
        self.items[idx].content.to_string()
    }
}

impl Squares for Shards<'_> {
    fn count(&self) -> usize {
        self.items.len()
    }

    fn square(&self, idx: usize, pass: usize) -> anyhow::Result<Tensor> {
        let pixels = self.prepared(idx, pass)?.to_dtype(DType::F32)?;
        // (v/255 − 0.5)/0.5
        Ok(((pixels / 127.5)? - 1.0)?)
    }

    fn name(&self, idx: usize) -> String {
        self.called(idx)
    }

    fn class(&self, idx: usize) -> usize {
        self.items[idx].shape
    }

    fn picture(&self, idx: usize) -> String {
        self.items[idx].content.to_string()
    }
}
