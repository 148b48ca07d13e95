//! A network that can be spoiled: a proxy between one worker and Postgres.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the network does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Net {
    /// It works.
    Fine,
    /// Nothing comes through, in either direction, and nobody is told.
    Split,
    /// Each piece takes this long.
    Slow(Duration),
}

/// What becomes of the connections that exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Live,
    /// Reset.
    Reset,
    /// Postgres hears that the worker has nothing more to say; the worker hears nothing.
    HalfClosed,
    /// They carry nothing any more and nobody is told, as behind a firewall that forgot them.
    Forgotten,
}

/// The proxy of one worker.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    net: watch::Sender<Net>,
    /// Connections that were made before a fate was sent have it.
    fate: watch::Sender<Fate>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy to `server`.
    pub fn start(server: SocketAddr) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let (net, fate) = (watch::Sender::new(Net::Fine), watch::Sender::new(Fate::Live));
        let (net_of_all, fate_of_all) = (net.clone(), fate.clone());
        let task = tokio::spawn(async move {
            while let Ok((worker, _)) = listener.accept().await {
                let (net, fate) = (net_of_all.subscribe(), fate_of_all.subscribe());
                tokio::spawn(carry(worker, server, net, fate));
            }
        });
        Self { port, net, fate, task }
    }

    /// Changes what the network does.
    pub fn set(&self, net: Net) {
        self.net.send_replace(net);
    }

    /// Resets every connection.
    pub fn reset(&self) {
        self.fate.send_replace(Fate::Reset);
    }

    /// Closes one direction of every connection.
    pub fn half_close(&self) {
        self.fate.send_replace(Fate::HalfClosed);
    }

    /// Forgets every connection.
    pub fn forget(&self) {
        self.fate.send_replace(Fate::Forgotten);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(worker: TcpStream, server: SocketAddr, mut net: watch::Receiver<Net>, mut fate: watch::Receiver<Fate>) {
    // What was sent to others before is not this connection's.
    fate.mark_unchanged();
    if net.wait_for(|it| *it != Net::Split).await.is_err() {
        return;
    }
    // Postgres may be away: then this connection ends, as its refusal would.
    let Ok(server) = TcpStream::connect(server).await else { return };
    let _ = (worker.set_nodelay(true), server.set_nodelay(true));
    let (from_worker, to_worker) = worker.into_split();
    let (from_server, to_server) = server.into_split();
    let there = pump(from_worker, to_server, net.clone(), Some(fate.clone()));
    let back = pump(from_server, to_worker, net, None);
    let both = async { tokio::join!(there, back) };
    tokio::pin!(both);
    loop {
        tokio::select! {
            ((), ()) = &mut both => return,
            changed = fate.changed() => {
                let now = *fate.borrow();
                match now {
                    _ if changed.is_err() => return,
                    Fate::Live | Fate::Reset => return,
                    Fate::HalfClosed => {}
                    // The sockets stay open, and neither side hears of the other for longer than any test lasts.
                    Fate::Forgotten => tokio::time::sleep(Duration::from_secs(7200)).await,
                }
            }
        }
    }
}

/// Carries one direction until it ends, or is closed by itself.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut net: watch::Receiver<Net>,
    mut fate: Option<watch::Receiver<Fate>>,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let n = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            () = half_closed(&mut fate) => 0,
        };
        if n == 0 {
            break;
        }
        let Ok(now) = net.wait_for(|it| *it != Net::Split).await.map(|it| *it) else { return };
        if let Net::Slow(delay) = now {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn half_closed(fate: &mut Option<watch::Receiver<Fate>>) {
    if let Some(fate) = fate {
        while fate.changed().await.is_ok() {
            if *fate.borrow() == Fate::HalfClosed {
                return;
            }
        }
    }
    std::future::pending::<()>().await;
}
