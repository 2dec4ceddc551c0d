//! The simulator from the outside: real requests over real connections.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::*;

mod access;
mod events;
mod faults;
mod keys;
mod lines;
mod messages;
mod operator;
mod requests;
mod stream;
mod webhooks;

const PHONE: &str = "+15550142200";

/// A simulator and a caller that knows its secret.
struct Far {
    simulator: Simulator,
    http: Client,
}

struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Reply {
    fn message_id(&self) -> &str {
        self.body["message_id"].as_str().unwrap_or_else(|| panic!("no message: {} {}", self.status, self.body))
    }

    /// The code in either shape; 0 for a success.
    fn code(&self) -> u64 {
        self.body["error"]["code"].as_u64().or(self.body["code"].as_u64()).unwrap_or(0)
    }
}

/// Everything off that could stand in a test's way: no gap, no cap, any port.
fn plain() -> Options {
    Options {
        port: 0,
        first_touch_gap: Duration::ZERO,
        first_touch_cap: Cap(None),
        seed: Some(7),
        ..Options::default()
    }
}

async fn far(options: Options) -> Far {
    Far {
        simulator: start(options).await.expect("a port is free"),
        http: Client::builder().no_proxy().build().expect("a client"),
    }
}

impl Far {
    async fn call(&self, method: Method, url: String, headers: &[(&str, String)], body: String) -> Reply {
        let mut request = self.http.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.send().await.expect("it answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.expect("a text");
        Reply { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    fn bearer() -> Vec<(&'static str, String)> {
        vec![("authorization", format!("Bearer {DEFAULT_SECRET}"))]
    }

    async fn get(&self, route: &str) -> Reply {
        self.call(Method::GET, self.simulator.base_url() + route, &Far::bearer(), String::new()).await
    }

    async fn post(&self, body: String) -> Reply {
        self.call(Method::POST, self.simulator.base_url() + "/send", &Far::bearer(), body).await
    }

    async fn send(&self, request: Value) -> Reply {
        self.post(request.to_string()).await
    }

    async fn text(&self, phone: &str, body: &str) -> Reply {
        self.send(json!({"phone": phone, "body": body})).await
    }

    async fn keyed(&self, key: &str, body: &str) -> Reply {
        self.send(json!({"phone": PHONE, "body": body, "idempotency_key": key})).await
    }

    /// A send that is expected to get no answer.
    async fn broken(&self, key: &str, timeout: Duration) -> reqwest::Error {
        let request = json!({"phone": PHONE, "body": "Hi", "idempotency_key": key});
        let call = self.http.post(self.simulator.base_url() + "/send").bearer_auth(DEFAULT_SECRET).timeout(timeout);
        match call.json(&request).send().await {
            Ok(response) => response.bytes().await.expect_err("it breaks"),
            Err(error) => error,
        }
    }

    async fn admin(&self, method: Method, route: &str, body: Value) -> Reply {
        self.call(method, self.simulator.admin_url() + route, &[], body.to_string()).await
    }

    async fn next(&self, faults: Value) {
        assert_eq!(self.admin(Method::PUT, "/faults", json!({"next": faults})).await.status, 200);
    }

    /// Opens a stream; from here on it misses nothing.
    async fn stream(&self, query: &str) -> Lines {
        let url = format!("{}/events/stream{query}", self.simulator.base_url());
        let response = self.http.get(url).bearer_auth(DEFAULT_SECRET).send().await.expect("it answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Lines { response, whole: VecDeque::new(), rest: String::new() }
    }

    fn receive(&self, phone: &str, text: &str) -> String {
        self.simulator.handle().receive(&inbound(phone, text)).expect("it is received")
    }
}

/// The text of a stream, line by line.
struct Lines {
    response: reqwest::Response,
    whole: VecDeque<String>,
    /// The last line, which may go on.
    rest: String,
}

impl Lines {
    /// The next line that is not empty; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        while self.whole.is_empty() {
            let piece = self.response.chunk().await.expect("it reads")?;
            self.rest.push_str(std::str::from_utf8(&piece).expect("UTF-8"));
            let rest = self.rest.rfind('\n').map_or(0, |end| end + 1);
            let rest = self.rest.split_off(rest);
            let whole = std::mem::replace(&mut self.rest, rest);
            self.whole.extend(whole.lines().filter(|line| !line.is_empty()).map(str::to_owned));
        }
        self.whole.pop_front()
    }

    async fn data(&mut self) -> Value {
        let line = self.next().await.expect("a line");
        serde_json::from_str(line.strip_prefix("data: ").unwrap_or_else(|| panic!("no data: {line}"))).expect("JSON")
    }
}

fn phone(n: usize) -> String {
    format!("+1555014{n:04}")
}

fn inbound(phone: &str, text: &str) -> Inbound {
    Inbound { phone: phone.into(), text: Some(text.into()), ..Inbound::default() }
}

fn events(events: EventOptions) -> Options {
    Options { events, ..plain() }
}
