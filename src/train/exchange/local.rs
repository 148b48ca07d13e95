//! Ranks that are processes of one machine, over Unix sockets: rank 0 gathers and gives out.

use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Communicator;

/// How long the ranks wait for each other at the start, and then for each message.
const PATIENCE: Duration = Duration::from_secs(600);
const SUM: u8 = 1;
const SHARE: u8 = 2;

/// Where rank 0 waits for the others. Made before they are started, so that none comes too early.
pub struct Meeting {
    listener: UnixListener,
    path: PathBuf,
}

impl Meeting {
    /// At a path where nothing is.
    ///
    /// # Errors
    /// The path is taken, too long for a socket (108 bytes) or not writable.
    pub fn at(path: &Path) -> Result<Self> {
        let listener = UnixListener::bind(path).with_context(|| format!("listen at {}", path.display()))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Waits until all others are there; this is rank 0 then.
    ///
    /// # Errors
    /// One that does not come in ten minutes, or comes twice.
    pub fn gather(self, n_ranks: usize) -> Result<Local> {
        self.listener.set_nonblocking(true)?;
        let start = Instant::now();
        let mut peers: Vec<Option<Peer>> = (1..n_ranks).map(|_| None).collect();
        while peers.iter().any(Option::is_none) {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    ensure!(start.elapsed() < PATIENCE, "not all of {n_ranks} ranks came within {PATIENCE:?}");
                    sleep(Duration::from_millis(10));
                    continue;
                }
                Err(error) => return Err(error).with_context(|| format!("listen at {}", self.path.display())),
            };
            stream.set_nonblocking(false)?;
            let mut peer = Peer::new(stream, 0)?;
            let mut hello = [0; 16];
            peer.reader.read_exact(&mut hello).context("greet a rank")?;
            let [rank, of] = [0, 8].map(|at| usize_at(&hello, at));
            ensure!(of == n_ranks && (1..n_ranks).contains(&rank), "rank {rank} of {of} came to {n_ranks} ranks");
            ensure!(peers[rank - 1].is_none(), "rank {rank} came twice");
            peer.rank = rank;
            peers[rank - 1] = Some(peer);
        }
        Ok(Local { rank: 0, n_ranks, peers: peers.into_iter().flatten().collect() })
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        // Whoever cannot remove it leaves an empty file in a scratch folder.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A rank among processes of one machine.
pub struct Local {
    rank: usize,
    n_ranks: usize,
    /// Of rank 0 all others, in their order; of the others rank 0.
    peers: Vec<Peer>,
}

impl Local {
    /// Joins the meeting at `path` as `rank` of `n_ranks`, 1 or more.
    ///
    /// # Errors
    /// Nobody is there.
    pub fn join(path: &Path, rank: usize, n_ranks: usize) -> Result<Self> {
        let stream = UnixStream::connect(path).with_context(|| format!("join the ranks at {}", path.display()))?;
        let mut peer = Peer::new(stream, 0)?;
        let hello = [(rank as u64).to_le_bytes(), (n_ranks as u64).to_le_bytes()].concat();
        peer.writer.write_all(&hello)?;
        peer.writer.flush()?;
        Ok(Self { rank, n_ranks, peers: vec![peer] })
    }
}

impl Communicator for Local {
    fn rank(&self) -> usize {
        self.rank
    }

    fn n_ranks(&self) -> usize {
        self.n_ranks
    }

    fn sum(&mut self, values: &mut [f32]) -> Result<()> {
        if self.rank > 0 {
            self.peers[0].send(SUM, values)?;
            return self.peers[0].receive(SUM, values);
        }
        let mut theirs = vec![0.0; values.len()];
        for peer in &mut self.peers {
            peer.receive(SUM, &mut theirs)?;
            values.iter_mut().zip(&theirs).for_each(|(sum, more)| *sum += more);
        }
        self.peers.iter_mut().try_for_each(|it| it.send(SUM, values))
    }

    fn share(&mut self, from: usize, values: &mut [f32]) -> Result<()> {
        match (self.rank, from) {
            (0, 0) => {}
            (0, from) => self.peers[from - 1].receive(SHARE, values)?,
            (rank, from) => {
                if rank == from {
                    return self.peers[0].send(SHARE, values);
                }
                return self.peers[0].receive(SHARE, values);
            }
        }
        self.peers.iter_mut().filter(|it| it.rank != from).try_for_each(|it| it.send(SHARE, values))
    }
}

struct Peer {
    reader: BufReader<UnixStream>,
    writer: BufWriter<UnixStream>,
    rank: usize,
}

impl Peer {
    fn new(stream: UnixStream, rank: usize) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let reader = BufReader::with_capacity(1 << 18, stream.try_clone()?);
        Ok(Self { reader, writer: BufWriter::with_capacity(1 << 18, stream), rank })
    }

    fn send(&mut self, what: u8, values: &[f32]) -> Result<()> {
        let mut go = || -> std::io::Result<()> {
            self.writer.write_all(&[what])?;
            self.writer.write_all(&(values.len() as u64).to_le_bytes())?;
            for part in values.chunks(1 << 14) {
                let bytes: Vec<u8> = part.iter().flat_map(|it| it.to_le_bytes()).collect();
                self.writer.write_all(&bytes)?;
            }
            self.writer.flush()
        };
        go().with_context(|| format!("tell rank {}", self.rank))
    }

    fn receive(&mut self, what: u8, values: &mut [f32]) -> Result<()> {
        let mut head = [0; 9];
        self.reader.read_exact(&mut head).with_context(|| format!("hear from rank {}", self.rank))?;
        let n = usize_at(&head, 1);
        if head[0] != what || n != values.len() {
            bail!("rank {} is elsewhere: it sent {n} numbers, and {} were due", self.rank, values.len());
        }
        let mut bytes = vec![0; 4 << 14];
        for part in values.chunks_mut(1 << 14) {
            let bytes = &mut bytes[..4 * part.len()];
            self.reader.read_exact(bytes).with_context(|| format!("hear from rank {}", self.rank))?;
            for (value, bytes) in part.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }
}

fn usize_at(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize
}
