//! The steps of a campaign as its file says them: what happens to a person, and what is sent.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::campaign::file::words::{Length, Name, Wait};
use crate::campaign::template::{Condition, Template};

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Step {
    Send(Box<SendStep>),
    Wait(WaitStep),
    Branch(BranchStep),
}

/// A message: a job of kind `send` whose fields are templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(
    deny_unknown_fields,
    extend("if" = {"required": ["variants"]}),
    extend("else" = {"properties": {"send": {"type": "object", "required": ["body"]}}})
)]
pub struct SendStep {
    #[schemars(schema_with = "send")]
    pub send: Send,
    /// What the step is called; its place in the file unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// How long after its time the message is still worth sending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<Length>,
    /// Of these each person gets one, always the same, as often as the weights say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default, length(min = 2, max = 20))]
    pub variants: Vec<Variant>,
}

/// The fields of the job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Send {
    #[serde(flatten)]
    pub content: Content,
    /// The recipient's name, for the lead that Chert makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub name: Option<Template>,
    /// Your own id of the recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub external_id: Option<Template>,
    /// The line that must send it. It moves the recipient to that line.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub phone_line_id: Option<Template>,
}

/// What a message shows; of this, each variant can say its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Content {
    /// The text, under `send` or in each variant. A blank line makes another bubble.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub body: Option<Template>,
    /// How many bubbles the text is meant to be; 1 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub bubbles: Option<u8>,
    /// Ids of what is sent along, or with live_photo.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub attachments: Vec<Attachment>,
    /// An Apple send effect, e.g. celebration.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub effect: Option<Template>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(deny_unknown_fields)]
pub enum Attachment {
    /// The id of an upload.
    Id(#[schemars(with = "String")] Template),
    /// The same, with how it is shown.
    Shown {
        #[schemars(with = "String")]
        id: Template,
        #[schemars(default)]
        live_photo: bool,
    },
}

/// One of several wordings; what it does not say is as under `send`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Variant {
    pub name: Name,
    /// 1 unless given: of weights 1 and 3, the second is sent three times as often.
    #[schemars(default = "weight", range(min = 1, max = 1000))]
    pub weight: u32,
    #[serde(flatten)]
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct WaitStep {
    pub wait: Wait,
    /// What the step is called; its place in the file unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BranchStep {
    pub branch: Branch,
    /// What the step is called; its place in the file unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
}

/// Two ways, which meet again after it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Branch {
    /// replied, delivered, var.NAME, label.NAME; with and, or, not, ==, !=, <, >.
    #[serde(rename = "if")]
    #[schemars(with = "String", example = &"replied", example = &"var.plan == 'pro'")]
    pub when: Condition,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub then: Vec<Step>,
    #[serde(rename = "else", skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub otherwise: Vec<Step>,
}

impl Content {
    /// This, and what `other` says where this says nothing.
    pub fn or(self, other: Content) -> Content {
        Content {
            body: self.body.or(other.body),
            bubbles: self.bubbles.or(other.bubbles),
            attachments: if self.attachments.is_empty() { other.attachments } else { self.attachments },
            effect: self.effect.or(other.effect),
        }
    }
}

/// Beside variants that say all of it, nothing may stand under `send`. It is no type, of which null is dropped.
fn send(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [generator.subschema_for::<Send>(), {"const": null}]})
}

fn weight() -> u32 {
    1
}
