//! What a job asks of a slot, and what a slot has. Needs are no part of a job's key: the result does not depend on them.

use std::fmt;

/// The label of agents that ask machines. People cannot give it; no slot has it, and who has it takes nothing else.
pub const ASKS: &str = "@asks";

/// The label of agents that ask the endpoint at `url`.
pub fn asks_at(url: &str) -> String {
    format!("{ASKS}:{url}")
}

/// What a job asks of a slot. The default is nothing: any slot will do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Needs {
    /// So many GPUs at once; 0 where the processor will do.
    pub n_gpus: u16,
    /// A part of the GPU's name, in lower case, such as `h100`; empty for any.
    pub gpu_model: String,
    /// Memory of each GPU in GiB, as it is sold; 0 for any.
    pub gpu_memory_gib: u32,
    /// Labels that the worker must have, sorted.
    pub labels: Vec<String>,
}

impl Needs {
    /// Any slot with a GPU.
    pub fn gpu() -> Self {
        Self { n_gpus: 1, ..Self::default() }
    }

    /// An agent that asks machines: at `url`, or wherever it does; and a worker with these labels.
    pub fn asking(url: Option<&str>, labels: &[String]) -> Self {
        let mut labels: Vec<String> = labels.to_vec();
        labels.push(ASKS.to_owned());
        labels.extend(url.map(asks_at));
        labels.sort();
        Self { labels, ..Self::default() }
    }

    /// What a slot lacks, in words; empty if it will do. Claims ask the database's `lane_fits`, which says the same.
    pub fn lacks(&self, offer: &Offer) -> Vec<String> {
        let mut lacks = Vec::new();
        if offer.n_gpus < self.n_gpus {
            lacks.push(match offer.n_gpus {
                0 => "has no GPU".to_owned(),
                1 => "has one GPU".to_owned(),
                n => format!("has {n} GPUs"),
            });
        }
        // Of a slot without a GPU there is nothing more to say.
        if offer.n_gpus > 0 {
            if !offer.gpu_model.to_lowercase().contains(&self.gpu_model) {
                lacks.push(match offer.gpu_model.as_str() {
                    "" => "does not know its GPU's name".to_owned(),
                    name => format!("has a {name}"),
                });
            }
            if offer.gpu_memory_gib < self.gpu_memory_gib {
                lacks.push(format!("has {} GiB", offer.gpu_memory_gib));
            }
        }
        let missing = self.labels.iter().filter(|it| !offer.labels.contains(it));
        lacks.extend(missing.map(|it| match it.strip_prefix(ASKS).map(|it| it.strip_prefix(':')) {
            Some(Some(url)) => format!("does not ask {url}"),
            Some(None) => "asks no machine: set JOBCTL_OPENAI_KEY or JOBCTL_OPENAI_URL for a worker".to_owned(),
            None => format!("is not labelled `{it}`"),
        }));
        if !self.asks() && offer.asks() {
            lacks.push("asks machines alone".to_owned());
        }
        lacks
    }

    /// Whether it asks for an agent that asks machines.
    pub fn asks(&self) -> bool {
        self.labels.iter().any(|it| it == ASKS)
    }

    /// Whether only a slot with a GPU will do.
    pub fn needs_gpu(&self) -> bool {
        self.n_gpus > 0
    }
}

impl fmt::Display for Needs {
    /// For people: `2 GPUs, \`h100\` in their name, 80 GiB each, label \`fast-disk\``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.asks() {
            let url = self.labels.iter().find_map(|it| it.strip_prefix(ASKS)?.strip_prefix(':'));
            write!(f, "an agent that asks {}", url.unwrap_or("judges and captioners"))?;
        }
        match self.n_gpus {
            0 if self.asks() => {}
            0 => f.write_str("any slot")?,
            1 => f.write_str("a GPU")?,
            n => write!(f, "a slot of {n} GPUs")?,
        }
        if !self.gpu_model.is_empty() {
            write!(f, " called `{}`", self.gpu_model)?;
        }
        if self.gpu_memory_gib > 0 {
            write!(f, " with {} GiB", self.gpu_memory_gib)?;
        }
        let own: Vec<&str> = self.labels.iter().map(String::as_str).filter(|it| !it.starts_with('@')).collect();
        match own.as_slice() {
            [] => Ok(()),
            [label] => write!(f, " of a worker labelled `{label}`"),
            labels => write!(f, " of a worker labelled `{}`", labels.join("` and `")),
        }
    }
}

impl Offer {
    /// Whether it is an agent's that asks machines.
    pub fn asks(&self) -> bool {
        self.labels.iter().any(|it| it == ASKS)
    }
}

/// Whether `text` may be a label: at most 63 letters a to z, digits, `-`, `_` and `.`.
pub fn is_label(text: &str) -> bool {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
    !text.is_empty() && text.len() <= 63 && text.chars().all(plain)
}

/// What a slot has. The default is a processor and no labels.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Offer {
    /// Its GPUs; 0 for a slot on the processor.
    pub n_gpus: u16,
    /// What its GPUs are called; empty if they are not of one kind, or nobody knows.
    pub gpu_model: String,
    /// Memory of the smallest of them in GiB, rounded up to the size that it is sold as.
    pub gpu_memory_gib: u32,
    /// The labels of its worker.
    pub labels: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::{ASKS, Needs, Offer, asks_at, is_label};

    #[test]
    fn needs_read_as_a_sentence() {
        let needs = Needs {
            n_gpus: 2,
            gpu_model: "h100".to_owned(),
            gpu_memory_gib: 80,
            labels: vec!["a".to_owned(), "b".to_owned()],
        };
        assert_eq!(needs.to_string(), "a slot of 2 GPUs called `h100` with 80 GiB of a worker labelled `a` and `b`");
        assert_eq!(Needs::default().to_string(), "any slot");
        assert_eq!(Needs::gpu().to_string(), "a GPU");
        assert_eq!(Needs::asking(None, &[]).to_string(), "an agent that asks judges and captioners");
        let there = Needs::asking(Some("http://gpu-7/v1"), &["fast".to_owned()]);
        assert_eq!(there.to_string(), "an agent that asks http://gpu-7/v1 of a worker labelled `fast`");
    }

    #[test]
    fn who_asks_machines_does_nothing_else() {
        let asks = Offer { labels: vec![ASKS.to_owned(), asks_at("https://a/v1")], ..Offer::default() };
        let slot = Offer::default();
        let lacks = |needs: &Needs, offer: &Offer| needs.lacks(offer).len();
        assert_eq!(lacks(&Needs::asking(None, &[]), &asks), 0);
        assert_eq!(lacks(&Needs::asking(Some("https://a/v1"), &[]), &asks), 0);
        assert_eq!(lacks(&Needs::asking(Some("https://b/v1"), &[]), &asks), 1);
        assert_eq!(lacks(&Needs::asking(None, &[]), &slot), 1);
        assert_eq!(lacks(&Needs::default(), &asks), 1);
        assert!(!is_label(ASKS));
    }
}
