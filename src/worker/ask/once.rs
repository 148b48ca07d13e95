//! Asking one question until it is answered: in its turn, within the budget, and after what goes wrong.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::pipe::Fault;
use super::super::turn::{Bench, End, next_wish};
use super::super::wish::{Ending, Stop, Wish};
use super::{Pictures, failed, texts};
use crate::database::within::within;
use crate::job::task::Task;
use crate::job::task::asking::Manner;
use crate::job::{Hash, JobId, Lease};
use crate::judge::client::{Client, Trouble};
use crate::judge::cost::{PictureTokens, Prices, TOKENS_OF_CAPTION, TOKENS_OF_VERDICT, Tokens};
use crate::judge::reply::{Reply, kept};
use crate::queue::LeaseLost;
use crate::queue::claim::Claimed;
use crate::queue::pace::{self, Pace};
use crate::store::asking::{self, Begun, Block, Intent, Stored};

/// How often an endpoint may say that it wants to be asked later, or not be reached, before the attempt ends.
const MOST_LATER: u32 = 8;
/// How many answers may be lost before the attempt ends: each may have cost something.
const MOST_LOST: u32 = 2;
/// The longest wait after an endpoint's bad moment, unless it asks for a longer one itself.
const LONGEST_BACKOFF_S: f64 = 60.0;

/// One attempt's asking.
pub(super) struct Asking {
    bench: Arc<Bench>,
    client: Arc<Client>,
    job: JobId,
    lease: Lease,
    key: Hash,
    blocks: Vec<Block>,
    deadline: Instant,
    limit: Duration,
    n_later: u32,
    n_lost: u32,
}

impl Asking {
    pub(super) fn new(
        bench: Arc<Bench>,
        client: Arc<Client>,
        job: &Claimed,
        key: Hash,
        blocks: Vec<Block>,
        deadline: Instant,
    ) -> Self {
        let (id, lease, limit) = (job.id, job.lease, job.limit);
        Self { bench, client, job: id, lease, key, blocks, deadline, limit, n_later: 0, n_lost: 0 }
    }

    /// Asks the `nth` question until its answer is stored.
    ///
    /// # Errors
    /// How the attempt ends instead.
    pub(super) async fn ask(
        &mut self,
        task: &Task,
        nth: u16,
        pictures: &Pictures,
        wishes: &mut watch::Receiver<Wish>,
    ) -> Result<(), End> {
        let (Some(texts), Some(manner)) = (texts(task), task.manner()) else {
            return Err(failed(Fault::Task, "nobody is asked for this"));
        };
        // Whichever block pays: what is reserved is enough for each.
        let counted =
            self.blocks.iter().filter_map(|it| it.pictures).map(|it| texts.most_tokens(manner, it, &pictures.sizes));
        let most = counted
            .max_by_key(|it| it.input)
            .unwrap_or_else(|| texts.most_tokens(manner, PictureTokens::of_model(&manner.model), &pictures.sizes));
        let likely = Tokens { output: likely_output(task).min(most.output), ..most };
        let body = texts.body(manner, &pictures.base64);
        let pace = self.blocks.iter().map(|it| it.pace).fold(Pace::default(), Pace::slower);
        let likely = likely.input.saturating_add(likely.output);
        loop {
            self.wait_for_turn(manner, pace, likely, wishes).await?;
            let intent = Intent {
                job: self.job,
                lease: self.lease,
                key: self.key,
                nth,
                model: &manner.model,
                endpoint: self.client.url(),
                prompt: texts.hash(),
                most,
            };
            let (id, block) = match self.begin(&intent, wishes).await? {
                Begun::Asked { id, block } => (id, block),
                Begun::Out(error) => return Err(failed(Fault::Task, error)),
            };
            let prices = self.blocks.iter().find(|it| Some(it.id) == block).and_then(|it| it.prices);
            let asked = Asked { id, prices, pace, likely, model: manner.model.clone() };
            let answer = tokio::spawn(asked.send(self.bench.clone(), self.client.clone(), body.clone()));
            match self.hear(answer, wishes).await? {
                Ok(()) => return Ok(()),
                Err(trouble) => self.bear(trouble, manner, wishes).await?,
            }
        }
    }

    /// Waits until it is this request's turn.
    async fn wait_for_turn(
        &self,
        manner: &Manner,
        pace: Pace,
        tokens: u32,
        wishes: &mut watch::Receiver<Wish>,
    ) -> Result<(), End> {
        let (pool, url, model) = (&self.bench.pool, self.client.url(), manner.model.as_str());
        loop {
            let wait = self.patiently(|| pace::reserve(pool, url, model, pace, tokens), wishes).await?;
            if wait.is_zero() {
                return Ok(());
            }
            self.sleep(wait, wishes).await?;
            // Meanwhile the endpoint may have asked to be left alone.
            let closed = self.patiently(|| pace::closed_for(pool, url, model), wishes).await?;
            if closed.is_zero() {
                return Ok(());
            }
        }
    }

    async fn begin(&self, intent: &Intent<'_>, wishes: &mut watch::Receiver<Wish>) -> Result<Begun, End> {
        self.patiently(|| asking::begin(&self.bench.pool, intent), wishes).await
    }

    /// Waits for an answer. Who must end waits a little, for an answer that has been paid for; it is stored in any case, as
    /// long as this process lives.
    async fn hear(
        &self,
        mut answer: JoinHandle<Result<(), Trouble>>,
        wishes: &mut watch::Receiver<Wish>,
    ) -> Result<Result<(), Trouble>, End> {
        wishes.mark_changed();
        loop {
            tokio::select! {
                answered = &mut answer => {
                    return Ok(answered.unwrap_or_else(|error| Err(Trouble::Lost(format!("what asked has panicked: {error}")))));
                }
                wish = next_wish(wishes) => {
                    if wish.ending(false) == Ending::None {
                        continue;
                    }
                    if !(wish.abandon || wish.stop == Stop::Now) {
                        let _ = timeout(self.bench.grace, &mut answer).await;
                    }
                    return Err(End::Ordered);
                }
                () = sleep_until(self.deadline) => return Err(End::TooLong(self.limit)),
            }
        }
    }

    /// What follows from a request without an answer: waiting and asking again, or the attempt's end.
    async fn bear(&mut self, trouble: Trouble, manner: &Manner, wishes: &mut watch::Receiver<Wish>) -> Result<(), End> {
        let error = trouble.to_string();
        tracing::warn!(job = self.job.0, error, "a request was not answered");
        match trouble {
            Trouble::Refused { .. } => Err(failed(Fault::Task, error)),
            Trouble::Denied { .. } => Err(failed(Fault::Machine, error)),
            Trouble::Lost(_) => {
                self.n_lost += 1;
                if self.n_lost >= MOST_LOST {
                    return Err(failed(Fault::Machine, error));
                }
                self.sleep(backoff(self.n_lost), wishes).await
            }
            Trouble::Unsent(_) => {
                self.count_later(&error)?;
                self.sleep(backoff(self.n_later), wishes).await
            }
            Trouble::Later { wait, .. } => {
                self.count_later(&error)?;
                let wait = wait.unwrap_or_else(|| backoff(self.n_later));
                let (pool, url) = (&self.bench.pool, self.client.url());
                self.patiently(|| pace::close(pool, url, &manner.model, wait), wishes).await?;
                self.sleep(wait, wishes).await
            }
        }
    }

    fn count_later(&mut self, error: &str) -> Result<(), End> {
        self.n_later += 1;
        if self.n_later >= MOST_LATER {
            return Err(failed(Fault::Machine, format!("{error} ({} times)", self.n_later)));
        }
        Ok(())
    }

    /// Sleeps, unless the attempt has to end.
    async fn sleep(&self, time: Duration, wishes: &mut watch::Receiver<Wish>) -> Result<(), End> {
        let until = Instant::now() + time;
        wishes.mark_changed();
        loop {
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                () = sleep_until(self.deadline) => return Err(End::TooLong(self.limit)),
                wish = next_wish(wishes) => {
                    // What only waits gives its place back as soon as the worker drains.
                    if wish.ending(false) != Ending::None || wish.stop != Stop::No {
                        return Err(End::Ordered);
                    }
                }
            }
        }
    }

    /// Repeats `action` while Postgres is out of reach.
    async fn patiently<T, F: Future<Output = anyhow::Result<T>>>(
        &self,
        action: impl Fn() -> F,
        wishes: &mut watch::Receiver<Wish>,
    ) -> Result<T, End> {
        let mut pause = Duration::from_millis(200);
        loop {
            match within(self.bench.patience, action()).await {
                Ok(value) => return Ok(value),
                // What follows finds out that the lease is lost.
                Err(error) if error.is::<LeaseLost>() => return Err(End::Ordered),
                Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot ask yet; trying again"),
            }
            self.sleep(pause, wishes).await?;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}

/// A request that is going out.
struct Asked {
    id: i64,
    prices: Option<Prices>,
    pace: Pace,
    likely: u32,
    model: String,
}

impl Asked {
    /// Sends it and stores what comes of it, however long Postgres is away.
    async fn send(self, bench: Arc<Bench>, client: Arc<Client>, body: Value) -> Result<(), Trouble> {
        let answer = client.ask(&body).await;
        let mut pause = Duration::from_millis(200);
        loop {
            match within(bench.patience, self.store(&bench, &answer)).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot store an answer yet; trying again"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
        let Ok(bytes) = answer else { return answer.map(drop) };
        let reply = Reply::read(&String::from_utf8_lossy(&bytes));
        if let (Some(input), Some(output)) = (reply.tokens_in, reply.tokens_out) {
            let more = i64::from(input) + i64::from(output) - i64::from(self.likely);
            let corrected = pace::correct(&bench.pool, client.url(), &self.model, self.pace, more);
            if let Err(error) = within(bench.patience, corrected).await {
                tracing::debug!(error = format!("{error:#}"), "cannot correct the pace");
            }
        }
        Ok(())
    }

    async fn store(&self, bench: &Bench, answer: &Result<Vec<u8>, Trouble>) -> anyhow::Result<()> {
        match answer {
            Ok(bytes) => {
                let reply = Reply::read(&String::from_utf8_lossy(bytes));
                let cost = self.prices.zip(reply.tokens_in).zip(reply.tokens_out);
                let cost = cost.map(|((prices, input), output)| prices.of(Tokens { input, output }));
                asking::answered(&bench.pool, self.id, &Stored { raw: &kept(bytes), reply: &reply, cost }).await
            }
            Err(trouble) => {
                let ending =
                    if matches!(trouble, Trouble::Lost(_)) { asking::Ending::Lost } else { asking::Ending::Refused };
                asking::ended(&bench.pool, self.id, ending, &trouble.to_string()).await
            }
        }
    }
}

/// The tokens that an answer is likely to have.
fn likely_output(task: &Task) -> u32 {
    match task {
        Task::Judge(it) => TOKENS_OF_VERDICT * u32::try_from(it.aspects.len()).unwrap_or(1),
        _ => TOKENS_OF_CAPTION,
    }
}

/// A random wait, evenly drawn below a limit that doubles.
fn backoff(n: u32) -> Duration {
    let limit_s = 2_f64.powi(i32::try_from(n).unwrap_or(30).min(30) - 1).min(LONGEST_BACKOFF_S);
    Duration::from_secs_f64(rand::rng().random_range(0.0..=limit_s))
}
