//! What goes wrong, each kind with how it is done and undone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_pcg::Pcg64Mcg;
use rustix::process::{Signal, kill_process};
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use super::field::{BEAT_MS, Field, GRACE_MS, STALE_MS};
use super::proxy::Net;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    KillAgent,
    KillSlot,
    Freeze,
    Drain,
    Preempt,
    RestartPostgres,
    CrashPostgres,
    CutConnections,
    CutListener,
    ExhaustPool,
    WrongClock,
    FullDisk,
    LostStore,
    Split,
    ForgetConnections,
    HalfClose,
    SlowNetwork,
}

impl Fault {
    pub const ALL: [Self; 17] = [
        // Freezing comes first: it is what fencing is for.
        Self::Freeze,
        Self::KillAgent,
        Self::KillSlot,
        Self::Split,
        Self::CrashPostgres,
        Self::Drain,
        Self::Preempt,
        Self::RestartPostgres,
        Self::CutConnections,
        Self::CutListener,
        Self::ExhaustPool,
        Self::WrongClock,
        Self::FullDisk,
        Self::LostStore,
        Self::ForgetConnections,
        Self::HalfClose,
        Self::SlowNetwork,
    ];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::KillAgent => "agent killed (SIGKILL)",
            Self::KillSlot => "slots killed (SIGKILL)",
            Self::Freeze => "agent stopped past its lease, then continued",
            Self::Drain => "agent drained (SIGTERM)",
            Self::Preempt => "agent preempted (SIGUSR1)",
            Self::RestartPostgres => "Postgres restarted",
            Self::CrashPostgres => "Postgres crashed",
            Self::CutConnections => "all connections terminated",
            Self::CutListener => "listening connections terminated",
            Self::ExhaustPool => "Postgres out of connections",
            Self::WrongClock => "a worker's clock an hour off",
            Self::FullDisk => "disk full",
            Self::LostStore => "store unreachable",
            Self::Split => "network split past the lease",
            Self::ForgetConnections => "connections forgotten by the network",
            Self::HalfClose => "connections half closed",
            Self::SlowNetwork => "slow network",
        }
    }

    /// Lets it happen, and makes it good again.
    pub async fn strike(self, field: &mut Field, dice: &mut Pcg64Mcg) {
        let victim = dice.random_range(0..field.workers.len());
        let moment = |dice: &mut Pcg64Mcg| Duration::from_millis(dice.random_range(100..800));
        let past_lease = Duration::from_millis(STALE_MS + 2 * BEAT_MS) + moment(dice);
        match self {
            Self::KillAgent => {
                field.kill(victim);
                sleep(moment(dice)).await;
                field.revive(victim, 0);
            }
            Self::KillSlot => {
                let mut slots = field.workers[victim].process.slots();
                let n = dice.random_range(1..=slots.len().max(1));
                slots.truncate(n);
                for slot in slots {
                    // It may have ended meanwhile.
                    let _ = kill_process(slot, Signal::KILL);
                }
            }
            Self::Freeze => {
                let pid = field.workers[victim].process.pid();
                if kill_process(pid, Signal::STOP).is_ok() {
                    sleep(past_lease).await;
                    let _ = kill_process(pid, Signal::CONT);
                }
            }
            Self::Drain | Self::Preempt => {
                let signal = if self == Self::Drain { Signal::TERM } else { Signal::USR1 };
                let worker = &mut field.workers[victim];
                worker.may_end = true;
                if worker.process.is_running() {
                    worker.process.signal(signal);
                }
                if dice.random_bool(0.3) {
                    sleep(moment(dice)).await;
                    // A second one stops it at once.
                    if worker.process.is_running() {
                        worker.process.signal(Signal::TERM);
                    }
                }
                worker.process.wait(Duration::from_millis(3 * GRACE_MS) + Duration::from_secs(20));
                field.revive(victim, 0);
            }
            Self::RestartPostgres => field.restart_server("fast"),
            Self::CrashPostgres => field.restart_server("immediate"),
            Self::CutConnections => {
                execute(
                    field,
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'jobctl'",
                )
                .await;
            }
            Self::CutListener => {
                execute(
                    field,
                    "select pg_terminate_backend(pid) from pg_stat_activity
                    where application_name = 'jobctl' and query ilike 'listen%'",
                )
                .await;
            }
            Self::ExhaustPool => exhaust(field, moment(dice)).await,
            Self::WrongClock => {
                field.kill(victim);
                let off_s = *[3600, -3600].choose(dice).expect("two ways");
                field.revive(victim, off_s);
                sleep(Duration::from_secs(1) + moment(dice)).await;
            }
            Self::FullDisk => {
                field.fill_disk();
                sleep(moment(dice)).await;
                field.clear_disk();
            }
            Self::LostStore => {
                let (store, away) = (field.artifacts(), field.home.join("away"));
                fs::create_dir_all(&store).unwrap();
                fs::rename(&store, &away).unwrap();
                // A folder that can be made anew would be no loss, unless a worker was faster.
                let _ = fs::write(&store, "");
                sleep(moment(dice)).await;
                bring_back(&store, &away, &field.home.join("strays"));
            }
            Self::Split => {
                field.workers[victim].proxy.set(Net::Split);
                sleep(past_lease).await;
                field.workers[victim].proxy.set(Net::Fine);
            }
            Self::ForgetConnections => {
                field.workers[victim].proxy.forget();
                sleep(past_lease).await;
            }
            Self::HalfClose => {
                field.workers[victim].proxy.half_close();
                sleep(moment(dice)).await;
            }
            Self::SlowNetwork => {
                field.workers[victim].proxy.set(Net::Slow(Duration::from_millis(dice.random_range(5..60))));
                sleep(Duration::from_secs(1) + moment(dice)).await;
                field.workers[victim].proxy.reset();
                field.workers[victim].proxy.set(Net::Fine);
            }
        }
    }
}

/// Puts the folder `away` back in its place, with what workers have put into one that they made there meanwhile.
fn bring_back(store: &Path, away: &Path, strays: &Path) {
    let mut n_strays = 0;
    let stray = |n: usize| strays.join(n.to_string());
    fs::create_dir_all(strays).unwrap();
    // A worker may make it anew between any two of these.
    loop {
        let _ = fs::remove_file(store);
        if fs::rename(store, stray(n_strays)).is_ok() {
            n_strays += 1;
        }
        if fs::rename(away, store).is_ok() {
            break;
        }
    }
    (0..n_strays).for_each(|it| pour(&stray(it), store));
    fs::remove_dir_all(strays).unwrap();
}

/// Moves all files below a folder to the same places below another.
fn pour(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (old, new) = (entry.path(), to.join(entry.file_name()));
        if old.is_dir() {
            pour(&old, &new);
        } else if !new.exists() {
            // A file that was being written may have gone.
            let _ = fs::rename(old, new);
        }
    }
}

async fn execute(field: &Field, statement: &'static str) {
    // Our own connections die with the others: that is no failure.
    let _ = sqlx::query(statement).execute(&field.pool).await;
}

/// Takes every connection that Postgres has left, and those of the workers that are cut meanwhile.
async fn exhaust(field: &Field, moment: Duration) {
    let mut taken = Vec::new();
    let Ok(mut first) = PgConnection::connect(field.url.reveal()).await else { return };
    for round in 0..2 {
        while let Ok(connection) = PgConnection::connect(field.url.reveal()).await {
            taken.push(connection);
        }
        if round == 0 {
            let cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'jobctl'";
            let _ = sqlx::query(cut).execute(&mut first).await;
        }
    }
    sleep(Duration::from_secs(1) + moment).await;
    for connection in taken {
        let _ = connection.close().await;
    }
}
