//! Takes out of a plan what is known already.

use std::collections::{HashMap, HashSet};

use super::{Edge, Plan};
use crate::job::Hash;
use crate::job::task::{MetricId, Task};
use crate::metrics::{self, Needs};

/// Whether the score of a picture, its reference, a metric and its network exists.
pub type Known<'a> = dyn Fn(&Hash, Option<&Hash>, &MetricId, Option<&Hash>) -> bool + 'a;

impl Plan {
    /// The plan without the scores that exist. `known` is asked for a picture's key, the key of its
    /// reference where the metric compares, the metric, and the network that it looks through; of set scores for the set's
    /// key ([`Pool::set_key`](crate::job::task::Pool::set_key)) and the metric.
    ///
    /// An evaluation with nothing left is dropped; one with less left has another key. A set is
    /// scored again unless its scores are known and none of its pictures is scored anew.
    #[must_use]
    pub fn trim(self, known: &Known) -> Self {
        let Self {
            name,
            on_failure,
            priority,
            max_running,
            limits,
            mut sources,
            mut cells,
            jobs,
            edges,
            trainings,
            asking,
        } = self;
        let mut compares: HashMap<MetricId, bool> = HashMap::new();
        let mut parents: HashMap<usize, Vec<usize>> = HashMap::new();
        for edge in &edges {
            parents.entry(edge.child).or_default().push(edge.parent);
        }

        let mut kept = Vec::with_capacity(jobs.len());
        let mut by_key: HashMap<Hash, usize> = HashMap::with_capacity(jobs.len());
        // Where each job has gone. Parents stand before their children.
        let mut places: Vec<Option<usize>> = Vec::with_capacity(jobs.len());
        for (idx, mut job) in jobs.into_iter().enumerate() {
            let has_work = match &mut job.task {
                Task::Evaluate(evaluate) => {
                    let n_metrics = evaluate.metrics.len();
                    let subject = job.subject.unwrap_or_else(|| evaluate.picture.key());
                    let (reference, network) = (job.reference, evaluate.network);
                    let mut still_compares = false;
                    evaluate.metrics.retain(|it| {
                        let compares = match compares.get(it) {
                            Some(&known) => known,
                            None => {
                                let found = metrics::find(it).is_some_and(|row| row.needs == Needs::Reference);
                                *compares.entry(it.clone()).or_insert(found)
                            }
                        };
                        let wanted = !known(&subject, reference.as_ref().filter(|_| compares), it, network.as_ref());
                        still_compares |= wanted && compares;
                        wanted
                    });
                    let has_metrics = !evaluate.metrics.is_empty();
                    if evaluate.metrics.len() < n_metrics {
                        if !still_compares {
                            evaluate.reference = None;
                            job.reference = None;
                        }
                        job.key = job.task.key();
                    }
                    has_metrics
                }
                // Whoever scores a picture needs it made. Work that was done is known by its key.
                Task::Encode(_)
                | Task::Denoise(_)
                | Task::Decode(_)
                | Task::Reconstruct(_)
                | Task::Prepare(_)
                | Task::Finetune(_)
                | Task::Judge(_)
                | Task::Caption(_)
                | Task::Rehearse(_) => true,
                Task::Pool(pool) => {
                    let set = pool.set_key();
                    let waits = parents.get(&idx).is_some_and(|it| it.iter().any(|&parent| places[parent].is_some()));
                    waits || !pool.metrics.iter().all(|it| known(&set, None, it, None))
                }
            };
            places.push(has_work.then(|| {
                *by_key.entry(job.key).or_insert_with(|| {
                    kept.push(job);
                    kept.len() - 1
                })
            }));
        }

        for cell in &mut cells {
            cell.jobs = cell.jobs.iter().filter_map(|it| places[*it]).collect();
        }
        for source in &mut sources {
            source.set = source.set.and_then(|it| places[it]);
        }
        let mut seen = HashSet::with_capacity(edges.len());
        let edges = edges
            .into_iter()
            .filter_map(|it| Some(Edge { parent: places[it.parent]?, child: places[it.child]?, kind: it.kind }))
            .filter(|it| seen.insert(*it))
            .collect();
        Self { name, on_failure, priority, max_running, limits, sources, cells, jobs: kept, edges, trainings, asking }
    }
}
