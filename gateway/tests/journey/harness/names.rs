//! Names: a name server that says what the test tells it, by the bytes of the protocol (RFC 1035 §4).
//!
//! For: discovery by DNS. May touch: one loopback UDP socket. Promises: A, AAAA and SRV questions are answered from what was set,
//! everything else with an empty answer. Read next: `../discovery.rs`.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// An answer to one question.
#[derive(Clone, Debug)]
pub enum Answer {
    /// An address.
    A(Ipv4Addr),
    /// An address of the other family.
    Aaaa(Ipv6Addr),
    /// Priority, weight, port and host of a service (RFC 2782).
    Srv(u16, u16, u16, &'static str),
}

/// A running name server.
pub struct Names {
    /// Where it listens.
    pub address: SocketAddr,
    known: Arc<Mutex<HashMap<String, Vec<Answer>>>>,
    task: JoinHandle<()>,
}

impl Names {
    /// Starts one that knows nothing.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let known: Arc<Mutex<HashMap<String, Vec<Answer>>>> = Arc::default();
        let answers = Arc::clone(&known);
        let task = tokio::spawn(async move {
            let mut question = [0; 512];
            loop {
                let (length, peer) = socket.recv_from(&mut question).await.expect("a bound socket receives");
                let reply = reply(&question[..length], &answers.lock().expect("no holder panicked"));
                socket.send_to(&reply, peer).await.expect("a bound socket sends");
            }
        });
        Self { address, known, task }
    }

    /// Says what a name has from now on.
    pub fn set(&self, name: &str, answers: &[Answer]) {
        self.known.lock().expect("no holder panicked").insert(name.to_owned(), answers.to_vec());
    }

    /// Goes away.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The reply to one question: its own head and question, with the answers behind.
fn reply(asked: &[u8], known: &HashMap<String, Vec<Answer>>) -> Vec<u8> {
    let (name, end) = read_name(asked, 12);
    let kind = u16::from_be_bytes([asked[end], asked[end + 1]]);
    let answers = known.get(&name).cloned().unwrap_or_default();
    let answers = answers.into_iter().filter(|answer| match answer {
        Answer::A(_) => kind == 1,
        Answer::Aaaa(_) => kind == 28,
        Answer::Srv(..) => kind == 33,
    });
    let answers: Vec<Answer> = answers.collect();
    // The id; a response, authoritative; no error; one question, so many answers, nothing else.
    let mut reply = asked[..2].to_vec();
    reply.extend([0x84, 0x00, 0, 1]);
    reply.extend(u16::try_from(answers.len()).expect("a few").to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(&asked[12..end + 4]);
    for answer in answers {
        // The question's name, its kind, the Internet, no time to live.
        reply.extend([0xc0, 12]);
        let data = match answer {
            Answer::A(ip) => {
                reply.extend([0, 1]);
                ip.octets().to_vec()
            }
            Answer::Aaaa(ip) => {
                reply.extend([0, 28]);
                ip.octets().to_vec()
            }
            Answer::Srv(priority, weight, port, host) => {
                reply.extend([0, 33]);
                let mut data: Vec<u8> =
                    [priority, weight, port].iter().flat_map(|number| number.to_be_bytes()).collect();
                for label in host.split('.') {
                    data.push(u8::try_from(label.len()).expect("a short label"));
                    data.extend(label.as_bytes());
                }
                data.push(0);
                data
            }
        };
        reply.extend([0, 1, 0, 0, 0, 0]);
        reply.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
        reply.extend(data);
    }
    reply
}

fn read_name(message: &[u8], mut at: usize) -> (String, usize) {
    let mut labels = Vec::new();
    while message[at] != 0 {
        let length = usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..=at + length]).to_lowercase());
        at += length + 1;
    }
    (labels.join("."), at + 1)
}
