//! A server that speaks as OpenAI's does, prefers the picture with more in it, and has its bad days.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The key that it is asked with.
pub const KEY: &str = "sk-test-of-the-judge";
/// What it says that it is.
pub const SNAPSHOT: &str = "gpt-4o-2024-08-06";
/// The tokens that it counts for every request.
pub const TOKENS: (u64, u64) = (1000, 100);

/// How one request is answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// As a judge or a captioner would.
    Well,
    /// With this text, which ended for this reason.
    Says(String, &'static str),
    /// With a refusal in its own field.
    Refuses,
    /// With this body, whatever it is.
    Raw(Vec<u8>),
    /// With a status, headers and an error.
    Status(u16, &'static str, &'static str),
    /// After a while.
    Late(Duration),
    /// With the first half of an answer.
    BreaksOff,
    /// When the test opens the gate.
    Gated,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub authorization: Option<String>,
    pub body: Value,
}

/// Which of two pictures it prefers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taste {
    /// The one whose file is longer, wherever it stands.
    Detail,
    /// The first.
    First,
}

/// It runs until the test ends.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    taste: Taste,
    script: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Seen>>,
    gate: (Mutex<bool>, Condvar),
}

impl Server {
    /// Answers the first requests as the script says, and all others well.
    pub fn start(taste: Taste, script: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = Mutex::new(script.iter().cloned().collect());
        let shared = Arc::new(Shared { taste, script, seen: Mutex::default(), gate: Default::default() });
        let server = Self { address, shared: shared.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The requests so far, in the order in which they came.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Answers what waits at the gate, and what will.
    pub fn open_gate(&self) {
        *self.shared.gate.0.lock().unwrap() = true;
        self.shared.gate.1.notify_all();
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        // Connections are kept.
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut headers = HashMap::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                headers.insert(name.to_lowercase(), value.to_owned());
            }
            let mut body = vec![0; headers["content-length"].parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            assert_eq!(path, "/v1/chat/completions");
            let body: Value = serde_json::from_slice(&body).unwrap();
            let seen = Seen { at: Instant::now(), authorization: headers.get("authorization").cloned(), body };
            self.seen.lock().unwrap().push(seen.clone());
            let answer = self.script.lock().unwrap().pop_front().unwrap_or(Answer::Well);
            if !self.answer(&mut stream, &seen.body, answer) {
                return;
            }
        }
    }

    /// False if the connection is over.
    fn answer(&self, stream: &mut TcpStream, request: &Value, answer: Answer) -> bool {
        let well = || completion(&well(request, self.taste), "stop");
        let (status, headers, body) = match answer {
            Answer::Well => (200, "", well()),
            Answer::Late(wait) => {
                std::thread::sleep(wait);
                (200, "", well())
            }
            Answer::Gated => {
                let open = self.gate.0.lock().unwrap();
                drop(self.gate.1.wait_while(open, |it| !*it).unwrap());
                (200, "", well())
            }
            Answer::Says(text, finish) => (200, "", completion(&text, finish)),
            Answer::Refuses => {
                let message = json!({ "role": "assistant", "content": null, "refusal": "I can't help with that." });
                let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
                (200, "", json!({ "model": SNAPSHOT, "choices": [choice], "usage": usage() }).to_string().into_bytes())
            }
            Answer::Raw(body) => (200, "", body),
            Answer::Status(status, headers, error) => {
                (status, headers, json!({ "error": { "message": error } }).to_string().into_bytes())
            }
            Answer::BreaksOff => {
                let body = well();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(&body[..body.len() / 2]);
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return false;
            }
        };
        let head = format!(
            "HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&body).is_ok()
    }
}

fn usage() -> Value {
    json!({ "prompt_tokens": TOKENS.0, "completion_tokens": TOKENS.1, "total_tokens": TOKENS.0 + TOKENS.1 })
}

fn completion(text: &str, finish: &str) -> Vec<u8> {
    let choice = json!({
        "index": 0, "message": { "role": "assistant", "content": text, "refusal": null }, "finish_reason": finish,
    });
    let body = json!({ "id": "chatcmpl-1", "object": "chat.completion", "model": SNAPSHOT, "choices": [choice], "usage": usage() });
    body.to_string().into_bytes()
}

/// The lengths of the pictures of a request.
fn pictures(request: &Value) -> Vec<usize> {
    let parts = request["messages"].as_array().unwrap().iter().rev().find_map(|it| it["content"].as_array()).unwrap();
    parts
        .iter()
        .filter_map(|it| {
            let url = it["image_url"]["url"].as_str()?;
            assert!(url.starts_with("data:image/jpeg;base64,"), "{}", &url[..40]);
            Some(url.len())
        })
        .collect()
}

/// What it answers on a good day.
pub fn well(request: &Value, taste: Taste) -> String {
    let pictures = pictures(request);
    let [first, second] = pictures.as_slice() else { return format!("\"A picture of {} bytes.\"", pictures[0]) };
    let side = match taste {
        Taste::First => "first",
        Taste::Detail if first >= second => "first",
        Taste::Detail => "second",
    };
    let asked = request["messages"].to_string();
    let titles = ["Visual Aesthetics", "Prompt Adherence", "Fine Details"];
    let lines = titles.iter().filter(|it| asked.contains(**it)).enumerate().map(|(idx, it)| {
        format!("{}. **{it}**: the {side} image is better. The reason is that it shows more.", idx + 1)
    });
    lines.collect::<Vec<_>>().join("\n")
}
