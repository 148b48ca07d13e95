//! `jobctl top`: what happens now, drawn anew every second or so.

mod frame;
mod screen;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use self::frame::{View, draw};
use self::screen::{Screen, keys};
use super::Outcome;
use super::lines::{say, say_json};
use crate::config::Config;
use crate::database;
use crate::queue::watch::{Frame, frame};

/// Watch the workers, the sweeps and the throughput live.
///
/// Keys: q ends it, p holds the picture, arrows, j, k, Page Up and Page Down scroll.
///
/// Example: jobctl top --once
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print one picture as text and end.
    #[arg(long)]
    once: bool,
    /// Print one look in JSON and end.
    #[arg(long, conflicts_with = "once")]
    json: bool,
    /// Seconds between two looks; where looking takes long, more.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    every: f64,
    /// Columns of a picture that is printed with --once.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(20..=500))]
    width: u16,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("between 0.1 and 3600 seconds".to_owned()) }
}

/// The part of the time that looking may take: one twentieth.
const REST: u32 = 20;

/// See [`Args`].
pub(super) async fn run(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !(args.once || args.json || is_terminal) {
        eprintln!("error: this is no terminal; `jobctl top --once` prints one picture, `--json` one look in JSON");
        return Ok(Outcome::Misused);
    }
    let pool = database::open(config, 2).await?;
    if args.json {
        say_json(&frame(&pool).await?)?;
    } else if args.once {
        let view = View { width: usize::from(args.width), height: usize::MAX, scroll: 0, held: false, trouble: None };
        for line in draw(&frame(&pool).await?, &view) {
            say(line.text.trim_end());
        }
    } else {
        watch(&pool, Duration::from_secs_f64(args.every)).await?;
    }
    Ok(Outcome::Done)
}

async fn watch(pool: &sqlx::PgPool, every: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("hear signals")?;
    let mut hang_up = signal(SignalKind::hangup()).context("hear signals")?;
    let mut last = frame(pool).await?;
    let mut screen = Screen::open()?;
    let mut keys = keys();
    let (mut scroll, mut held, mut trouble) = (0_usize, false, None);
    let mut pause = every;
    loop {
        let (width, height) = screen.size();
        let view = View { width, height, scroll, held, trouble: trouble.clone() };
        screen.show(&draw(&last, &view))?;
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
            event = keys.recv() => match event {
                None => return Ok(()),
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => match command(key) {
                    Command::End => return Ok(()),
                    Command::Hold => held = !held,
                    Command::By(n) => {
                        let most = n_rows(&last).saturating_sub(1);
                        scroll = scroll.saturating_add_signed(n).min(most);
                    }
                    Command::None => {}
                },
                Some(_) => {}
            },
            () = sleep(pause), if !held => {
                let began = Instant::now();
                match frame(pool).await {
                    Ok(it) => (last, trouble) = (it, None),
                    // Postgres may come back: the last picture stays, and says that it is old.
                    Err(error) => trouble = Some(format!("{error:#}")),
                }
                pause = every.max(began.elapsed() * REST);
            }
        }
    }
}

fn n_rows(frame: &Frame) -> usize {
    frame.workers.len() + frame.running.len() + frame.sweeps.len()
}

/// What a key asks for.
enum Command {
    End,
    Hold,
    By(isize),
    None,
}

fn command(key: KeyEvent) -> Command {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Command::End,
        KeyCode::Char('q') | KeyCode::Esc => Command::End,
        KeyCode::Char('p' | ' ') => Command::Hold,
        KeyCode::Up | KeyCode::Char('k') => Command::By(-1),
        KeyCode::Down | KeyCode::Char('j') => Command::By(1),
        KeyCode::PageUp => Command::By(-10),
        KeyCode::PageDown => Command::By(10),
        KeyCode::Home => Command::By(isize::MIN / 2),
        _ => Command::None,
    }
}
