//! The blocks that ask machines: which of two pictures is better, and what a picture shows.

use std::sync::Arc;

use crate::job::needs::Needs;
use crate::job::task::asking::{Aspect, Manner};
use crate::judge::cost::{PictureTokens, Prices};

/// How a machine is asked, how fast, and for how much.
#[derive(Clone, PartialEq, Debug)]
pub struct Terms {
    /// What may change its answers.
    pub manner: Manner,
    /// At most so many requests a minute, over all workers.
    pub requests_per_minute: Option<f64>,
    /// At most so many tokens a minute, over all workers.
    pub tokens_per_minute: Option<f64>,
    /// At most so many US dollars; none where it costs nothing.
    pub budget: Option<f64>,
    /// What tokens cost; none where nobody knows.
    pub prices: Option<Prices>,
    /// Whether the sweep does not say so, and they are those of our own table: an assumption.
    pub assumed: bool,
    /// What a picture counts as.
    pub pictures: PictureTokens,
    /// Whether neither the sweep nor our own table says so, and pictures count as GPT-4o's.
    pub pictures_assumed: bool,
    /// Answers that come in batch files cost this share of it; 1 where nobody says otherwise.
    pub batch: f64,
    /// What its jobs ask of whoever does them.
    pub needs: Arc<Needs>,
}

/// Pictures compared in pairs by a machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Judge {
    /// The block's name.
    pub name: String,
    /// The blocks whose sources are compared, each with each.
    pub of: Vec<String>,
    /// On what, in the order of [`Aspect::ALL`].
    pub aspects: Vec<Aspect>,
    /// The captions that say what pictures show which have no prompt: index into
    /// [`Sweep::caption`](super::Sweep::caption).
    pub captions: Option<usize>,
    /// Whether each pair is asked for twice, in both orders; else once, in an order that its keys draw.
    pub both_orders: bool,
    /// So many parts of each pair are compared too, on fine details.
    pub crops: u32,
    /// How it is asked.
    pub terms: Terms,
}

/// Pictures captioned by a machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Caption {
    /// The block's name.
    pub name: String,
    /// The pictures: index into [`Sweep::images`](super::Sweep::images).
    pub of: usize,
    /// What is asked.
    pub question: String,
    /// How it is asked.
    pub terms: Terms,
}
