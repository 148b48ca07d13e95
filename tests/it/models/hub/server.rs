//! A server with the addresses and the headers of the Hugging Face hub, and with its bad days.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha2::{Digest, Sha256};

/// The only repository that it has.
pub const NAME: &str = "team/sd3";
/// Its only commit.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The file that goes wrong.
const VICTIM: &str = "vae/diffusion_pytorch_model.safetensors";

/// What it does otherwise than it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Habit {
    /// The connection of a file breaks once, in the middle.
    BreaksOff,
    /// The same, and the length was not announced.
    BreaksOffQuietly,
    /// It breaks off once, and then sends the whole file whatever was asked for.
    IgnoresRanges,
    /// One bit of a file is wrong, every time.
    Damages,
    /// Files only for those with the right token.
    WantsToken,
    /// Not even the list of files without it.
    HidesFromStrangers,
    /// The autoencoder is there as .bin alone.
    HasNoSafetensors,
    /// Not Stable Diffusion 3.
    IsAnotherFamily,
}

/// It runs until the test ends.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    files: HashMap<String, Vec<u8>>,
    habits: Vec<Habit>,
    asked: Mutex<Vec<String>>,
    /// Where each transfer of the victim began.
    starts: Mutex<Vec<usize>>,
}

impl Server {
    /// Serves a package, and beside it what the pipeline does not read.
    pub fn start(package: &Path, habits: &[Habit]) -> Self {
        let mut files = HashMap::new();
        for entry in walkdir::WalkDir::new(package).into_iter().map(|it| it.unwrap()) {
            if entry.file_type().is_file() {
                let path = entry.path().strip_prefix(package).unwrap().to_str().unwrap().to_owned();
                files.insert(path, fs::read(entry.path()).unwrap());
            }
        }
        for surplus in [
            "single.safetensors",
            "vae/diffusion_pytorch_model.bin",
            "vae/diffusion_pytorch_model.fp16.safetensors",
            "text_encoder/model.fp16.safetensors",
            "text_encoder_3/model.safetensors.index.fp16.json",
            "text_encoder_3/model.fp16-00001-of-00002.safetensors",
            "picture.png",
            "README.md",
        ] {
            files.insert(surplus.to_owned(), b"surplus".to_vec());
        }
        if habits.contains(&Habit::HasNoSafetensors) {
            files.remove(VICTIM);
        }
        if habits.contains(&Habit::IsAnotherFamily) {
            files.insert("model_index.json".to_owned(), br#"{"_class_name": "FluxPipeline"}"#.to_vec());
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { files, habits: habits.to_vec(), asked: Mutex::default(), starts: Mutex::default() });
        let server = Self { address, shared: shared.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || shared.answer(stream));
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The paths that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// Whether a transfer began where another one had stopped.
    pub fn was_resumed(&self) -> bool {
        self.shared.starts.lock().unwrap().iter().any(|it| *it > 0)
    }
}

impl Shared {
    fn is(&self, habit: Habit) -> bool {
        self.habits.contains(&habit)
    }

    fn answer(&self, stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let Some(request) = lines.next() else { return };
        let path = request.split(' ').nth(1).unwrap().to_owned();
        let headers: HashMap<String, String> = lines
            .take_while(|it| !it.is_empty())
            .filter_map(|it| it.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())))
            .collect();
        self.asked.lock().unwrap().push(path.clone());
        let is_known = headers.get("authorization").is_some_and(|it| it == "Bearer secret");
        let mut stream = stream;
        let list = ["main", COMMIT].map(|it| format!("/api/models/{NAME}/revision/{it}?blobs=true"));
        let file = ["main", COMMIT].iter().find_map(|it| path.strip_prefix(&format!("/{NAME}/resolve/{it}/")));
        if list.contains(&path) {
            if self.is(Habit::HidesFromStrangers) && !is_known {
                return refuse(&mut stream, "401 Unauthorized");
            }
            let body = self.listing();
            let length = body.len();
            write(&mut stream, &format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"));
            write(&mut stream, &body);
        } else if let Some(name) = file
            && let Some(bytes) = self.files.get(name)
        {
            if self.is(Habit::WantsToken) && !is_known {
                return refuse(&mut stream, "403 Forbidden");
            }
            let range = headers.get("range").and_then(|it| it.strip_prefix("bytes=")).unwrap_or("0-");
            self.send(&mut stream, name, bytes, range);
        } else {
            refuse(&mut stream, "404 Not Found");
        }
    }

    fn listing(&self) -> String {
        let siblings = self.files.iter().map(|(path, bytes)| {
            // As on the hub, large files have their checksum.
            if path.ends_with(".safetensors") {
                let sha256 = hex(&Sha256::digest(bytes));
                json!({ "rfilename": path, "size": bytes.len(), "lfs": { "sha256": sha256, "size": bytes.len(), "pointerSize": 134 } })
            } else {
                json!({ "rfilename": path, "size": bytes.len() })
            }
        });
        json!({ "id": NAME, "sha": COMMIT, "siblings": siblings.collect::<Vec<_>>() }).to_string()
    }

    fn send(&self, stream: &mut TcpStream, name: &str, bytes: &[u8], range: &str) {
        let (from, to) = range.split_once('-').unwrap();
        let mut from: usize = from.parse().unwrap();
        let to = to.parse::<usize>().map_or(bytes.len(), |it| (it + 1).min(bytes.len()));
        let etag = hex(&Sha256::digest(bytes));
        let is_whole = to == bytes.len();
        if from >= bytes.len() {
            return refuse(stream, "416 Range Not Satisfiable");
        }
        let mut bytes = bytes.to_vec();
        let is_victim = name == VICTIM && is_whole;
        if is_victim && self.is(Habit::Damages) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        let is_first = is_victim && {
            let mut starts = self.starts.lock().unwrap();
            starts.push(from);
            starts.len() == 1
        };
        if is_victim && self.is(Habit::IgnoresRanges) {
            from = 0;
        }
        let quietly = is_first && self.is(Habit::BreaksOffQuietly);
        let breaks = quietly || is_first && (self.is(Habit::BreaksOff) || self.is(Habit::IgnoresRanges));
        let body = &bytes[from..to];
        let length = if quietly { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let range = format!("bytes {from}-{}/{}", to - 1, bytes.len());
        write(
            stream,
            &format!(
                "HTTP/1.1 206 Partial Content\r\n{length}Content-Range: {range}\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close\r\n\r\n"
            ),
        );
        let sent = if breaks { &body[..body.len() / 3] } else { body };
        let _ = stream.write_all(sent);
    }
}

fn write(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

fn refuse(stream: &mut TcpStream, status: &str) {
    write(stream, &format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}
