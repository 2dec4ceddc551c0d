//! Webhooks from the outside: a real receiver, and what reaches it.

use std::collections::VecDeque;

use axum::body::Bytes;
use axum::http::StatusCode;

use super::*;

mod deliveries;
mod subscriptions;

/// A server that answers with the statuses that it was told, then with 200, and hands on what it got.
struct Receiver {
    url: String,
    got: mpsc::Receiver<Got>,
}

struct Got {
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().expect("a text")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

impl Receiver {
    async fn start(statuses: &[u16]) -> Receiver {
        let (give, got) = mpsc::channel(1000);
        let statuses = Arc::new(Mutex::new(statuses.iter().copied().collect::<VecDeque<u16>>()));
        let take = move |headers: HeaderMap, body: Bytes| {
            let (give, status) = (give.clone(), statuses.lock().expect("no holder panics").pop_front().unwrap_or(200));
            async move {
                give.send(Got { headers, body }).await.expect("the test listens");
                StatusCode::from_u16(status).expect("a status")
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}/hooks", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/hooks", post(take))).await });
        Receiver { url, got }
    }

    async fn next(&mut self) -> Got {
        self.got.recv().await.expect("a webhook")
    }
}

/// Attempts at once, one after the other.
fn quick() -> Options {
    let webhooks = WebhookOptions { webhook_waits: vec![Duration::ZERO; 3], ..WebhookOptions::default() };
    Options { webhooks, ..plain() }
}

impl Far {
    async fn api(&self, method: Method, route: &str, body: Value) -> Reply {
        self.call(method, self.simulator.base_url() + route, &Far::bearer(), body.to_string()).await
    }

    async fn subscribe(&self, wish: Value) -> Value {
        let created = self.api(Method::POST, "/webhook-subscriptions", wish).await;
        assert_eq!(created.status, 200, "{}", created.body);
        created.body["subscription"].clone()
    }

    /// Somebody writes. Returns the event's number.
    fn hear(&self) -> u64 {
        let event_id = self.receive(PHONE, "Hi");
        self.simulator.handle().events().iter().rfind(|event| event.event_id == event_id).expect("it is logged").seq
    }

    /// The delivery of this event, as soon as it has ended.
    async fn ended(&self, seq: u64) -> EventDelivery {
        let delivery = || self.simulator.shared().state().log.get(seq).expect("it is logged").delivery.clone();
        until(|| delivery().status() != EventStatus::Pending).await;
        delivery()
    }

    async fn replay(&self, seq: u64, query: &str) -> Reply {
        let id = self.simulator.shared().state().log.get(seq).expect("it is logged").id.clone();
        self.api(Method::POST, &format!("/events/{id}/replay{query}"), json!({})).await
    }
}

/// Waits until something is so; it must not take long.
async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it comes to be so");
}

impl Simulator {
    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}
