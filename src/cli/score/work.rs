//! Scoring many images at once: results in the order of the inputs, few images in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::inputs::Input;
use super::networks::Loaded;
use crate::image::{Rgb, files};
use crate::metrics::{self, Metric, Needs, Score, Subject};

/// The most images in memory at once, each with its reference. A metric uses all threads, so that more images would
/// add little speed.
const MAX_IMAGES: usize = 16;

/// How to score an image.
pub struct Work<'a> {
    /// What is wanted of each.
    pub wanted: &'a [&'static Metric],
    /// What some of them look through, loaded.
    pub networks: &'a [Loaded],
    /// The threads that the metrics run on.
    pub pool: &'a rayon::ThreadPool,
    /// The limit on an image's size.
    pub max_pixels: u64,
}

/// What became of one input.
pub struct Done {
    /// As printed.
    pub path: String,
    /// Its place among the sets.
    pub set: Option<usize>,
    /// Width and height in pixels; zeros if it could not be read.
    pub size: (u32, u32),
    /// In the order of the metrics.
    pub scores: Vec<Score>,
    /// What kept it from being scored by some or all of them.
    pub errors: Vec<String>,
}

impl Work<'_> {
    /// Scores every input and hands the results over in the inputs' order; stops at `taken`'s first error.
    ///
    /// Images are the work of threads of their own: on the metrics' pool a thread that waits for a metric would pick up
    /// the next image meanwhile, and with it more memory than anyone planned.
    pub fn each(&self, inputs: &[Input], mut taken: impl FnMut(Done) -> io::Result<()>) -> io::Result<()> {
        let next = AtomicUsize::new(0);
        let (results, arrived) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.pool.current_num_threads().min(MAX_IMAGES).min(inputs.len()) {
                let (results, next) = (results.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        let Some(input) = inputs.get(i) else { break };
                        if results.send((i, self.one(input))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(results);
            let mut waiting = BTreeMap::new();
            let mut due = 0;
            for (i, done) in arrived {
                waiting.insert(i, done);
                while let Some(done) = waiting.remove(&due) {
                    taken(done)?;
                    due += 1;
                }
            }
            Ok(())
        })
    }

    fn one(&self, input: &Input) -> Done {
        let mut done =
            Done { path: input.shown.clone(), set: input.set, size: (0, 0), scores: Vec::new(), errors: Vec::new() };
        let image = match &input.file {
            Ok(file) => files::read(file, self.max_pixels).map_err(|it| it.to_string()),
            Err(error) => Err(error.clone()),
        };
        let (rgb, file_bytes) = match image {
            Ok(read) => read,
            Err(error) => {
                done.errors.push(error);
                return done;
            }
        };
        done.size = (rgb.width, rgb.height);
        let needs_reference = |it: &&&Metric| it.needs == Needs::Reference;
        let reference = match &input.reference {
            Some(file) if self.wanted.iter().any(|it| needs_reference(&it)) => {
                file.as_deref().map_err(String::clone).and_then(|file| self.reference(file)).map(Some)
            }
            _ => Ok(None),
        };
        let (wanted, reference) = match reference {
            Ok(reference) => (self.wanted.to_vec(), reference),
            Err(error) => {
                done.errors.push(error);
                (self.wanted.iter().filter(|it| !needs_reference(it)).copied().collect(), None)
            }
        };
        let subject = Subject { rgb: &rgb, file_bytes: Some(file_bytes), reference: reference.as_ref() };
        self.pool.install(|| {
            done.scores = metrics::evaluate(&wanted, &subject);
            for (network, scorer) in self.networks {
                let looks = |it: &Metric| metrics::network(it).is_some_and(|it| it.metric == network.metric);
                let rows: Vec<&'static Metric> = wanted.iter().copied().filter(|it| looks(it)).collect();
                if rows.is_empty() {
                    continue;
                }
                match scorer.score(&rows, &subject) {
                    Ok(found) => {
                        let places = done.scores.iter_mut().filter(|it| looks(it.metric));
                        places.zip(found).for_each(|(place, it)| *place = it);
                    }
                    Err(error) => {
                        done.scores.retain(|it| !looks(it.metric));
                        done.errors.push(format!("{}: {error:#}", network.metric));
                    }
                }
            }
        });
        done
    }

    fn reference(&self, file: &Path) -> Result<Rgb, String> {
        match files::read(file, self.max_pixels) {
            Ok((rgb, _)) => Ok(rgb),
            Err(error) => Err(format!("its reference {}: {error}", file.display())),
        }
    }
}
