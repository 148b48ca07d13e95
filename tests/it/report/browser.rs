//! A headless browser that opens pages, and a proxy that notes whatever it asks the network for.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Takes every request that would leave the machine, and answers none.
pub struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::clone(&seen);
        // Ends with the test process; connections are closed unanswered.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut line = String::new();
                let _ = BufReader::new(stream).read_line(&mut line);
                requests.lock().unwrap().push(line.trim().to_owned());
            }
        });
        Self { address, seen }
    }

    /// What was asked for, less the three hosts that a browser asks on its own account, on whatever page.
    pub fn requests(&self) -> Vec<String> {
        let own = ["clients2.google.com", "update.googleapis.com", "accounts.google.com"];
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|it| own.iter().all(|own| !it.contains(own))).cloned().collect()
    }
}

/// How a page is opened.
#[derive(Clone, Copy)]
pub struct View {
    pub width: u32,
    /// What the reader prefers.
    pub scheme: Scheme,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Scheme {
    Light,
    Dark,
}

/// The document after its scripts have run.
pub fn open(page: &Path, view: View, proxy: &Proxy) -> String {
    let profile = tempfile::tempdir().unwrap();
    let scheme = if view.scheme == Scheme::Dark { 0 } else { 1 };
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--virtual-time-budget=3000", "--dump-dom"])
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("--window-size={},900", view.width))
        .arg(format!("--proxy-server=http://{}", proxy.address))
        .arg("--proxy-bypass-list=<-loopback>")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap_or_else(|why| panic!("chromium does not start ({why}): `apt-get install chromium` brings it"));
    let dom = String::from_utf8(output.stdout).unwrap();
    assert!(dom.contains("</html>"), "{}", String::from_utf8_lossy(&output.stderr));
    dom
}
