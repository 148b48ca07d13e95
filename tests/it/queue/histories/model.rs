//! The queue as a few lists in memory: what ARCHITECTURE.md says of states, and nothing else.

use std::collections::BTreeSet;

use jobctl::job::State;

use super::EDGES;
use crate::support::graph::How;

/// The attempts that a job has.
const MOST_ATTEMPTS: usize = 3;

/// A job.
#[derive(Clone, Debug)]
pub struct Row {
    /// Whether any sweep has asked for it yet.
    pub exists: bool,
    pub state: State,
    pub n_attempts: usize,
    pub held: bool,
    pub cancel_asked: bool,
}

impl Row {
    /// Whether it has not ended.
    pub fn lives(&self) -> bool {
        self.exists && !self.state.is_final()
    }

    /// Whether a slot may take it.
    pub fn is_claimable(&self) -> bool {
        self.exists && self.state == State::Ready && !self.held
    }
}

#[derive(Clone, Debug)]
struct Sweep {
    members: Vec<usize>,
    stops: bool,
    paused: bool,
    cancelled: bool,
}

/// The whole queue.
#[derive(Clone, Debug)]
pub struct Model {
    pub jobs: Vec<Row>,
    sweeps: Vec<Sweep>,
    /// Parent, child, whether the child needs the parent's result.
    edges: BTreeSet<(usize, usize, bool)>,
}

impl Model {
    pub fn new(n_jobs: usize) -> Self {
        let row = Row { exists: false, state: State::Ready, n_attempts: 0, held: false, cancel_asked: false };
        Self { jobs: vec![row; n_jobs], sweeps: Vec::new(), edges: BTreeSet::new() }
    }

    pub fn n_blockers(&self, job: usize) -> usize {
        self.edges.iter().filter(|it| it.1 == job && self.jobs[it.0].lives()).count()
    }

    pub fn claim(&mut self, job: usize) {
        self.jobs[job].state = State::Running;
        self.jobs[job].n_attempts += 1;
    }

    pub fn settle(&mut self, job: usize, how: How) {
        let row = &self.jobs[job];
        match how {
            How::Finish => self.end(&[job], State::Done),
            How::Fail => self.end(&[job], State::Failed),
            How::Retry | How::Release if row.cancel_asked => self.end(&[job], State::Cancelled),
            How::Retry if row.n_attempts >= MOST_ATTEMPTS => self.end(&[job], State::Failed),
            How::Retry => self.put_back(job),
            How::Release => {
                self.put_back(job);
                self.jobs[job].n_attempts -= 1;
            }
        }
    }

    /// A parent may have been revived while it ran.
    fn put_back(&mut self, job: usize) {
        self.jobs[job].state = if self.n_blockers(job) > 0 { State::Waiting } else { State::Ready };
    }

    fn end(&mut self, jobs: &[usize], state: State) {
        let (mut ending, mut state) = (jobs.to_vec(), state);
        while !ending.is_empty() {
            let ended: Vec<usize> = ending.into_iter().filter(|it| self.jobs[*it].lives()).collect();
            for &job in &ended {
                self.jobs[job].state = state;
                self.jobs[job].cancel_asked = false;
            }
            let below: Vec<(usize, usize, bool)> =
                self.edges.iter().filter(|it| ended.contains(&it.0) && self.jobs[it.1].lives()).copied().collect();
            let orphans: BTreeSet<usize> = below
                .iter()
                .filter(|it| it.2 && state != State::Done && self.jobs[it.1].state != State::Running)
                .map(|it| it.1)
                .collect();
            for (_, child, _) in below {
                if self.jobs[child].state == State::Waiting && !orphans.contains(&child) && self.n_blockers(child) == 0
                {
                    self.jobs[child].state = State::Ready;
                }
            }
            if state == State::Failed {
                let stopping =
                    |it: &Sweep| it.stops && !it.cancelled && it.members.iter().any(|job| ended.contains(job));
                let stopping: Vec<usize> = (0..self.sweeps.len()).filter(|it| stopping(&self.sweeps[*it])).collect();
                stopping.into_iter().for_each(|it| self.cancel_sweep(it));
            }
            ending = orphans.into_iter().collect();
            state = State::Skipped;
        }
    }

    /// Whether a sweep that is not cancelled wants the job.
    fn is_wanted(&self, job: usize) -> bool {
        self.sweeps.iter().any(|it| !it.cancelled && it.members.contains(&job))
    }

    pub fn cancel_sweep(&mut self, sweep: usize) {
        self.sweeps[sweep].cancelled = true;
        let members = self.sweeps[sweep].members.clone();
        let unwanted: Vec<usize> = members.iter().copied().filter(|it| !self.is_wanted(*it)).collect();
        self.cancel_jobs(&unwanted);
        self.hold(&members);
    }

    pub fn cancel_jobs(&mut self, jobs: &[usize]) {
        let living = jobs.iter().copied().filter(|it| self.jobs[*it].lives());
        let (running, idle): (Vec<usize>, Vec<usize>) = living.partition(|it| self.jobs[*it].state == State::Running);
        running.into_iter().for_each(|it| self.jobs[it].cancel_asked = true);
        self.end(&idle, State::Cancelled);
    }

    fn hold(&mut self, jobs: &[usize]) {
        for &job in jobs {
            let mut wanting = self.sweeps.iter().filter(|it| !it.cancelled && it.members.contains(&job)).peekable();
            if wanting.peek().is_some() && self.jobs[job].lives() {
                self.jobs[job].held = wanting.all(|it| it.paused);
            }
        }
    }

    pub fn set_paused(&mut self, sweep: usize, paused: bool) {
        self.sweeps[sweep].paused = paused;
        let members = self.sweeps[sweep].members.clone();
        self.hold(&members);
    }

    /// False, and nothing changes, if one of them needs what has ended without a result and stays so.
    pub fn retry(&mut self, jobs: &[usize]) -> bool {
        let has_ended = |it: usize| self.jobs[it].exists && self.jobs[it].state.is_final();
        let seeds = jobs.iter().copied().filter(|it| has_ended(*it) && self.jobs[*it].state != State::Done);
        let mut reviving: BTreeSet<usize> = seeds.collect();
        loop {
            let n_before = reviving.len();
            let below: Vec<usize> = self
                .edges
                .iter()
                .filter(|it| reviving.contains(&it.0) && has_ended(it.1))
                .filter(|it| self.jobs[it.1].state == State::Skipped || !it.2)
                .map(|it| it.1)
                .collect();
            reviving.extend(below);
            if reviving.len() == n_before {
                break;
            }
        }
        let is_stuck = self.edges.iter().any(|&(parent, child, needs)| {
            needs
                && reviving.contains(&child)
                && !reviving.contains(&parent)
                && has_ended(parent)
                && self.jobs[parent].state != State::Done
        });
        if is_stuck {
            return false;
        }
        for &job in &reviving {
            self.jobs[job] = Row { exists: true, state: State::Ready, n_attempts: 0, held: false, cancel_asked: false };
        }
        let below: Vec<usize> = self.edges.iter().filter(|it| reviving.contains(&it.0)).map(|it| it.1).collect();
        for job in reviving.iter().copied().chain(below) {
            if self.jobs[job].lives() && self.jobs[job].state != State::Running {
                self.jobs[job].state = if self.n_blockers(job) > 0 { State::Waiting } else { State::Ready };
            }
        }
        let revived: Vec<usize> = reviving.into_iter().collect();
        self.hold(&revived);
        true
    }

    fn revive_sweep(&mut self, sweep: usize) -> bool {
        let was_cancelled = std::mem::replace(&mut self.sweeps[sweep].cancelled, false);
        let members = self.sweeps[sweep].members.clone();
        members.iter().for_each(|it| self.jobs[*it].cancel_asked = false);
        if was_cancelled {
            self.hold(&members);
        }
        let cancelled: Vec<usize> = members.into_iter().filter(|it| self.jobs[*it].state == State::Cancelled).collect();
        self.retry(&cancelled)
    }

    /// As `jobctl retry SWEEP`; false, and nothing changes, as [`Self::retry`].
    pub fn retry_sweep(&mut self, sweep: usize) -> bool {
        self.or_nothing(|it| {
            let members = it.sweeps[sweep].members.clone();
            it.revive_sweep(sweep) && {
                let ended: Vec<usize> = members.into_iter().filter(|job| it.jobs[*job].state.is_final()).collect();
                it.retry(&ended)
            }
        })
    }

    /// False, and nothing changes, as [`Self::retry`].
    pub fn enqueue(&mut self, members: &[usize], stops: bool) -> bool {
        self.or_nothing(|it| match it.sweeps.iter().position(|it| it.members == members && it.stops == stops) {
            Some(sweep) => it.revive_sweep(sweep),
            None => it.submit(members, stops),
        })
    }

    fn submit(&mut self, members: &[usize], stops: bool) -> bool {
        let known: Vec<usize> = members.iter().copied().filter(|it| self.jobs[*it].exists).collect();
        let is_new = |it: usize| members.contains(&it) && !known.contains(&it);
        for &(parent, child, needs) in EDGES.iter().filter(|it| members.contains(&it.0) && members.contains(&it.1)) {
            let child_is_idle = self.jobs[child].lives() && self.jobs[child].state != State::Running;
            if is_new(child) || (child_is_idle && is_new(parent)) {
                self.edges.insert((parent, child, needs));
            }
        }
        let new: Vec<usize> = members.iter().copied().filter(|it| is_new(*it)).collect();
        new.iter().for_each(|it| self.jobs[*it].exists = true);
        for &job in members {
            if self.jobs[job].lives() && self.jobs[job].state != State::Running {
                self.jobs[job].state = if self.n_blockers(job) > 0 { State::Waiting } else { State::Ready };
            }
        }
        let members = members.to_vec();
        self.sweeps.push(Sweep { members: members.clone(), stops, paused: false, cancelled: false });
        known.iter().for_each(|it| self.jobs[*it].cancel_asked = false);
        self.hold(&known);
        let cancelled: Vec<usize> =
            known.iter().copied().filter(|it| self.jobs[*it].state == State::Cancelled).collect();
        if !self.retry(&cancelled) {
            return false;
        }
        let orphans: BTreeSet<usize> = self
            .edges
            .iter()
            .filter(|it| it.2 && members.contains(&it.1))
            .filter(|it| self.jobs[it.0].state.is_final() && self.jobs[it.0].state != State::Done)
            .map(|it| it.1)
            .filter(|it| self.jobs[*it].lives() && self.jobs[*it].state != State::Running)
            .collect();
        self.end(&orphans.into_iter().collect::<Vec<_>>(), State::Skipped);
        true
    }

    fn or_nothing(&mut self, action: impl FnOnce(&mut Self) -> bool) -> bool {
        let before = self.clone();
        let worked = action(self);
        if !worked {
            *self = before;
        }
        worked
    }
}
