//! What the agent wants of a running attempt.

/// How far a worker is in stopping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum Stop {
    /// Not at all.
    #[default]
    No,
    /// It takes nothing new. What saves does so and is given back; what does not is finished.
    Drain,
    /// What runs is given back, after it has saved.
    GiveBack,
    /// What runs is given back as it is.
    Now,
}

/// What the agent wants of a running attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Wish {
    /// Somebody cancelled the job.
    pub(super) cancel: bool,
    /// The lease is lost: nothing may be written any more.
    pub(super) abandon: bool,
    /// How far the worker is in stopping.
    pub(super) stop: Stop,
}

/// What that means for its process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Ending {
    /// It goes on.
    None,
    /// It saves, and ends within the grace time.
    Save,
    /// It is killed.
    Kill,
}

impl Wish {
    /// What it means for the process of a task that saves, or does not.
    pub(super) fn ending(self, saves: bool) -> Ending {
        if self.abandon || self.stop == Stop::Now {
            Ending::Kill
        } else if self.cancel || self.stop == Stop::GiveBack {
            if saves { Ending::Save } else { Ending::Kill }
        } else if self.stop == Stop::Drain && saves {
            Ending::Save
        } else {
            Ending::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ending, Stop, Wish};

    #[test]
    fn only_what_saves_is_given_time_and_a_lost_lease_gives_none() {
        let ending = |cancel, abandon, stop| {
            let wish = Wish { cancel, abandon, stop };
            (wish.ending(true), wish.ending(false))
        };
        assert_eq!(ending(false, false, Stop::No), (Ending::None, Ending::None));
        assert_eq!(ending(false, false, Stop::Drain), (Ending::Save, Ending::None));
        assert_eq!(ending(false, false, Stop::GiveBack), (Ending::Save, Ending::Kill));
        assert_eq!(ending(true, false, Stop::No), (Ending::Save, Ending::Kill));
        assert_eq!(ending(true, false, Stop::Now), (Ending::Kill, Ending::Kill));
        assert_eq!(ending(false, true, Stop::Drain), (Ending::Kill, Ending::Kill));
    }
}
