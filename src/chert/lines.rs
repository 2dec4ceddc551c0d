//! The tenant's sender lines.

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::chert::ask::AskError;
use crate::chert::client::Client;

/// A sender line as `GET /phone-numbers` lists it.
#[derive(Debug, Clone, Deserialize)]
pub struct ListedLine {
    pub id: String,
    pub phone_number: Option<String>,
    #[serde(default = "yes")]
    pub is_active: bool,
}

fn yes() -> bool {
    true
}

impl Client {
    /// All lines, in one answer. Source: API contract 5.1.
    pub async fn lines(&self) -> Result<Vec<ListedLine>, AskError> {
        #[derive(Deserialize)]
        struct Listing {
            phone_numbers: Vec<ListedLine>,
        }
        let listing = self.ask::<Listing>(Method::GET, "phone-numbers", &[], &Value::Null, "a list of phone numbers");
        Ok(listing.await?.phone_numbers)
    }
}
