//! What recipients do: they write and they react. It goes into the log as an event, and from there to whoever listens.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use uuid::Uuid;

use super::checks::is_usable_phone;
use super::clock::Stamp;
use super::events::Happening;
use super::fate::MessageState;
use super::ledger::LedgerEntry;
use super::lines;
use super::state::{Lead, PHONES_LIMIT, State, random_uuid};

/// A message from a phone to one of our lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inbound {
    /// The sender, E.164.
    pub phone: String,
    pub text: Option<String>,
    /// Id of the line that it goes to; unless given, the one that the sender is pinned to.
    pub line: Option<String>,
    /// Ids of attachments.
    pub attachments: Vec<String>,
    /// Unless given, a new one. One that is given twice makes two events that are duplicates.
    pub event_id: Option<String>,
}

/// A tapback of a phone on one of our messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reaction {
    /// Who reacts, E.164.
    pub phone: String,
    /// The message; unless given, the last one to this phone.
    pub message_id: Option<String>,
    /// `love`, `like`, `dislike`, `laugh`, `emphasize` or `question`; `love` unless given.
    pub reaction: Option<String>,
    /// It is taken back.
    pub removed: bool,
    /// Unless given, a new one.
    pub event_id: Option<String>,
}

/// Why nothing was received.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InboundError {
    #[error("the phone is not usable E.164")]
    Phone,
    #[error("there is no such line")]
    Line,
    #[error("the simulator knows too many phones")]
    TooManyPhones,
    #[error("there is no message to this phone that could be reacted to")]
    Message,
}

impl State {
    /// Takes in a message. A phone that is not known gets its lead and its pin, so that our first message to it is no first
    /// touch (contract 8, question 25). Returns the `event_id`. Errors: `Phone`, `Line`, `TooManyPhones`.
    pub fn receive(&mut self, inbound: &Inbound, now: Stamp) -> Result<String, InboundError> {
        if !is_usable_phone(&inbound.phone) {
            return Err(InboundError::Phone);
        }
        let count = self.lines.lines.len();
        let named =
            inbound.line.as_deref().map(|id| lines::position(id, count).ok_or(InboundError::Line)).transpose()?;
        let lead = match self.leads.get(&inbound.phone) {
            Some(lead) => *lead,
            None if self.leads.len() >= PHONES_LIMIT => return Err(InboundError::TooManyPhones),
            None => {
                // Whoever writes first has one of our numbers from somewhere: any, but the same in every run.
                let line = named.unwrap_or_else(|| super::fingerprint(&inbound.phone) as usize % count);
                let lead = Lead::new(line);
                self.leads.insert(inbound.phone.clone(), lead);
                lead
            }
        };
        let chat = Chat { phone: &inbound.phone, lead: &lead, line: named.unwrap_or(lead.line) };
        let data = self.received(&chat, inbound, now);
        let event_id = inbound.event_id.clone().unwrap_or_else(|| new_event_id("msg"));
        self.happen(&lead, "message.received", event_id.clone(), now.at_us, data.clone());
        if self.options.events.lead_replies {
            self.happen(&lead, "lead_reply", new_event_id("reply"), now.at_us, data.clone());
        }
        if self.options.events.unknown_events {
            self.happen(&lead, "conversation.reviewed", new_event_id("review"), now.at_us, data);
        }
        Ok(event_id)
    }

    /// Takes in a tapback. Returns the `event_id`. Errors: `Message` if there is none to react to.
    pub fn react(&mut self, reaction: &Reaction, now: Stamp) -> Result<String, InboundError> {
        let lead = *self.leads.get(&reaction.phone).ok_or(InboundError::Message)?;
        let message_id = match &reaction.message_id {
            Some(id) => Uuid::parse_str(id).map_err(|_| InboundError::Message)?,
            None => lead.last_message_id.ok_or(InboundError::Message)?,
        };
        let entry = self.ledger.with_message(message_id).filter(|entry| entry.phone == reaction.phone);
        let entry = entry.ok_or(InboundError::Message)?;
        let chat = Chat { phone: &entry.phone, lead: &lead, line: lead.line };
        let data = raw(&json!({
            "chat": chat.object(),
            "reaction": reaction.reaction.as_deref().unwrap_or("love"),
            "sender_handle": handle(chat.phone, false),
            "message": { "id": entry.message_id, "direction": "outbound" },
        }));
        let kind = if reaction.removed { "reaction.removed" } else { "reaction.added" };
        let event_id = reaction.event_id.clone().unwrap_or_else(|| new_event_id("reaction"));
        self.happen(&lead, kind, event_id.clone(), now.at_us, data);
        Ok(event_id)
    }

    /// Tells that a message of ours came to this state, if such events are asked for.
    pub fn tell_state(&mut self, message_id: Uuid, state: MessageState, at_us: i64) {
        if !self.options.events.delivery_events {
            return;
        }
        let Some((entry, lead)) = self.message_and_lead(message_id) else { return };
        let kind = match state {
            MessageState::Delivered => "message.delivered",
            MessageState::Read => "message.read",
            MessageState::Failed => "message.failed",
        };
        let line = lines::position(&entry.line_id, self.lines.lines.len()).unwrap_or(lead.line);
        let chat = Chat { phone: &entry.phone, lead: &lead, line };
        let mut message = self.fate(entry).message(entry, lead.lead_id, &self.clock, at_us);
        message["sender_handle"] = handle(&lines::number(line), true);
        let data = raw(&json!({ "chat": chat.object(), "message": message }));
        self.happen(&lead, kind, new_event_id("status"), at_us, data);
    }

    fn message_and_lead(&self, message_id: Uuid) -> Option<(&LedgerEntry, Lead)> {
        let entry = self.ledger.with_message(message_id)?;
        Some((entry, *self.leads.get(&entry.phone)?))
    }

    /// `data` of a `message.received`. Contract 4.3.
    fn received(&self, chat: &Chat, inbound: &Inbound, now: Stamp) -> Box<RawValue> {
        let text = inbound.text.iter().map(|text| json!({ "type": "text", "value": text }));
        let media = inbound.attachments.iter().map(|id| json!({ "type": "media", "attachment_id": id }));
        let sent_at = self.clock.calendar(now.at_us);
        raw(&json!({
            "chat": chat.object(),
            "message": {
                // Inbound ids are upper-case: contract 2.
                "id": random_uuid().to_string().to_uppercase(),
                "direction": "inbound",
                "sender_handle": handle(chat.phone, false),
                "parts": text.chain(media).collect::<Vec<Value>>(),
                "sent_at": super::fate::rfc3339(sent_at),
                "service": "imessage",
            },
        }))
    }

    fn happen(&mut self, lead: &Lead, kind: &'static str, event_id: String, at_us: i64, data: Box<RawValue>) {
        let Lead { lead_id, convo_id, .. } = *lead;
        let seq = self.log.append(Happening { kind, event_id, lead_id, convo_id, at_us, data });
        self.announce(seq);
    }
}

/// Somebody, and the line that they talk with.
struct Chat<'a> {
    phone: &'a str,
    lead: &'a Lead,
    line: usize,
}

impl Chat<'_> {
    fn object(&self) -> Value {
        let ours = handle(&lines::number(self.line), true);
        json!({
            "id": self.lead.lead_id.to_string(),
            "is_group": false,
            "handles": [ours, handle(self.phone, false)],
            "owner_handle": ours,
        })
    }
}

fn handle(number: &str, is_me: bool) -> Value {
    json!({ "handle": number, "service": "imessage", "is_me": is_me })
}

fn new_event_id(of: &str) -> String {
    format!("chert:{of}:{:024x}", rand::random::<u128>() >> 32)
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).expect("plain data with text keys becomes JSON")
}
