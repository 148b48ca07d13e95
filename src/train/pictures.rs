//! From squares of pictures to the batches of an autoencoder.

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};

use super::autoencoder::Pictures;
use super::feed::{Look, Source, by_picture};
use super::order::{Order, starts};
use super::random::{Purpose, Stream};

/// Squares to learn from.
pub trait Squares {
    /// How many there are.
    fn count(&self) -> usize;

    /// One of them, as it is shown in a pass over all: [3, side, side] from −1 to 1, on the CPU.
    ///
    /// # Errors
    /// It cannot be read.
    fn square(&self, idx: usize, pass: usize) -> Result<Tensor>;

    /// What people call it.
    fn name(&self, idx: usize) -> String {
        idx.to_string()
    }

    /// Squares of one class fit into one batch: the class is that of its shape.
    fn class(&self, _idx: usize) -> usize {
        0
    }

    /// The picture that it is of: several may be views of one, and those stand together.
    fn picture(&self, idx: usize) -> String {
        idx.to_string()
    }
}

/// How batches are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Drawing {
    /// All chance comes from it.
    pub seed: u64,
    /// Squares of one batch.
    pub batch: usize,
    /// Batches of one step, on each rank.
    pub accumulate: usize,
}

/// Squares, and the noise of their latents.
pub struct PictureFeed<'a> {
    drawing: Drawing,
    squares: &'a dyn Squares,
    /// Channels of a latent, and how many pixels one of it stands for along each axis.
    latent: (usize, usize),
    device: Device,
    order: Order,
}

impl<'a> PictureFeed<'a> {
    /// Of these squares, for an autoencoder whose latents have so many channels and are so many times smaller.
    ///
    /// # Errors
    /// There are none, or batches of none.
    pub fn new(drawing: Drawing, squares: &'a dyn Squares, latent: (usize, usize), device: &Device) -> Result<Self> {
        ensure!(squares.count() > 0, "there is nothing to learn from");
        ensure!(drawing.batch > 0 && drawing.accumulate > 0, "a step without images");
        let classes: Vec<usize> = (0..squares.count()).map(|it| squares.class(it)).collect();
        let order = Order::new(drawing.seed, &classes, drawing.batch);
        Ok(Self { drawing, squares, latent, device: device.clone(), order })
    }

    /// The batch of these squares: index, pass, and where the noise comes from.
    fn batch(&self, shown: Vec<(usize, usize, Stream)>) -> Result<Pictures> {
        let (mut images, mut noises) = (Vec::with_capacity(shown.len()), Vec::with_capacity(shown.len()));
        let (n_channels, factor) = self.latent;
        for (idx, pass, mut random) in shown {
            let square = self.squares.square(idx, pass).with_context(|| format!("read {}", self.squares.name(idx)))?;
            let (_, height, width) = square.dims3()?;
            let shape = (n_channels, height / factor, width / factor);
            noises.push(Tensor::from_vec(random.normals(shape.0 * shape.1 * shape.2), shape, &Device::Cpu)?);
            images.push(square);
        }
        let images = Tensor::stack(&images, 0).context("the squares of one batch differ in size")?;
        Ok(Pictures {
            images: images.to_device(&self.device)?,
            noise: Tensor::stack(&noises, 0)?.to_device(&self.device)?,
        })
    }
}

impl Source for PictureFeed<'_> {
    type Batch = Pictures;

    fn batches(&mut self, step: usize, rank: usize, n_ranks: usize) -> Result<Vec<Pictures>> {
        let Drawing { seed, batch, accumulate } = self.drawing;
        let whole = batch * accumulate * n_ranks;
        let mut batches = Vec::with_capacity(accumulate);
        for first in starts(batch, accumulate, rank, n_ranks) {
            let shown = (first..first + batch).map(|place| {
                let (idx, pass) = self.order.at(step * whole + place);
                (idx, pass, Stream::new(seed, Purpose::Noise, step as u64, place as u64))
            });
            let shown = shown.collect();
            batches.push(self.batch(shown)?);
        }
        Ok(batches)
    }

    fn shown(&mut self, step: usize, rank: usize, n_ranks: usize) -> Vec<String> {
        let Drawing { batch, accumulate, .. } = self.drawing;
        let first = step * batch * accumulate * n_ranks;
        let places = starts(batch, accumulate, rank, n_ranks).flat_map(|it| first + it..first + it + batch);
        places.map(|it| self.squares.name(self.order.at(it).0)).collect()
    }

    /// Every square once: it has no noise levels.
    fn all(&self, _: usize) -> Result<Vec<Look<Pictures>>> {
        let seed = self.drawing.seed;
        let shown = |idx: &usize| (*idx, 0, Stream::new(seed, Purpose::HeldOut, *idx as u64, 0));
        let mut looks = Vec::new();
        for (of, idxs) in by_picture(self.squares.count(), |idx| self.squares.picture(idx)) {
            for part in idxs.chunks(self.drawing.batch) {
                let batch = self.batch(part.iter().map(shown).collect())?;
                looks.push(Look { of: of.clone(), n: part.len(), batch });
            }
        }
        Ok(looks)
    }
}
