//! The terminal while `jobctl top` has it: taken over, drawn on, and given back however the program ends.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{
    self, Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen,
};
use crossterm::{execute, queue};
use tokio::sync::mpsc;

use super::frame::Line;

/// The terminal, taken over.
pub struct Screen;

impl Screen {
    /// Takes the terminal over.
    pub fn open() -> anyhow::Result<Self> {
        terminal::enable_raw_mode().context("take the terminal over")?;
        // From here on, dropping it gives the terminal back.
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide, DisableLineWrap).context("take the terminal over")?;
        Ok(screen)
    }

    /// Its columns and rows.
    pub fn size(&self) -> (usize, usize) {
        let (width, height) = terminal::size().unwrap_or((80, 24));
        (usize::from(width.max(1)), usize::from(height.max(1)))
    }

    /// Draws these lines and nothing else.
    pub fn show(&mut self, lines: &[Line]) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        queue!(out, MoveTo(0, 0))?;
        for (row, line) in lines.iter().enumerate() {
            queue!(out, MoveTo(0, u16::try_from(row).unwrap_or(u16::MAX)))?;
            if line.is_head {
                queue!(out, SetAttribute(Attribute::Bold))?;
            }
            queue!(out, Print(&line.text), SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
        }
        let below = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        if usize::from(below) < self.size().1 {
            queue!(out, MoveTo(0, below), Clear(ClearType::FromCursorDown))?;
        }
        Ok(out.flush()?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// The keys that are pressed, and changes of the terminal's size. The thread behind it ends with the receiver.
pub fn keys() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(Duration::from_millis(100)) {
                Ok(false) => {}
                Ok(true) => match event::read() {
                    Ok(event) if sender.blocking_send(event).is_ok() => {}
                    _ => break,
                },
                Err(_) => break,
            }
        }
    });
    receiver
}
