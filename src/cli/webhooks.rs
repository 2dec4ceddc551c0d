//! `webhooks`: the subscriptions by which Chert posts events to us.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};

use crate::chert::subscriptions::{Created, Subscription, SubscriptionChange};
use crate::cli::{print_json, table};
use crate::config::ChertOptions;

/// Have Chert post events here, and stop it.
#[derive(Debug, Subcommand)]
pub enum Webhooks {
    /// List the subscriptions.
    List(List),
    /// Create a subscription, and keep its secret.
    Create(Create),
    /// Change a subscription.
    Update(Update),
    /// Delete subscriptions.
    Delete(Delete),
}

impl Webhooks {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Webhooks::List(args) => args.run().await?,
            Webhooks::Create(args) => args.run().await?,
            Webhooks::Update(args) => args.run().await?,
            Webhooks::Delete(args) => {
                let client = args.chert.client()?;
                for id in args.ids {
                    client.delete_subscription(&id).await?;
                    outln!("deleted subscription {id}");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    chert: ChertOptions,
    /// Print them as JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let all = self.chert.client()?.subscriptions().await?;
        if self.json {
            return print_json(&all);
        }
        let mut rows = table(&["subscription", "state", "events", "version", "created", "url"]);
        for one in &all {
            rows.add_row([
                one.id.clone(),
                if one.is_active { "active" } else { "off" }.to_owned(),
                events(one),
                one.version.clone().unwrap_or_default(),
                one.created_at.clone().unwrap_or_default(),
                one.url.clone(),
            ]);
        }
        outln!("{}", rows.trim_fmt());
        Ok(())
    }
}

fn events(one: &Subscription) -> String {
    if one.events.is_empty() { "all".to_owned() } else { one.events.join(" ") }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Chert tells the secret of a subscription once, here and never again: it goes into a file that only you may read, or on the screen.
Give it to the workers as CHERT_WEBHOOK_SECRET. Creating twice makes two subscriptions, each with a secret of its own.

To change the secret, create a second subscription, give the workers both secrets (CHERT_WEBHOOK_SECRET=new,old), delete the
first, and drop its secret.

Examples:
  chert-outbox webhooks create --url https://outbox.example.com/webhooks/chert --secret-file webhook.secret
  chert-outbox webhooks create --url https://outbox.example.com/webhooks/chert --event message.received --show-secret"
)]
#[command(group(clap::ArgGroup::new("secret").required(true).multiple(true)))]
pub struct Create {
    #[command(flatten)]
    chert: ChertOptions,
    /// Where Chert posts to: public HTTPS, ending in /webhooks/chert, or https://dev-inbox to record only.
    #[arg(long)]
    url: String,
    /// Only events of this type, spelt exactly; may be given again. Every type unless it is given.
    #[arg(long = "event", value_name = "TYPE")]
    events: Vec<String>,
    /// The version of the envelope, such as 2026-05-04; Chert's own choice unless it is given.
    #[arg(long, value_name = "DATE")]
    version: Option<String>,
    /// Write the secret here; the file must not be there yet.
    #[arg(long, group = "secret", value_name = "PATH")]
    secret_file: Option<PathBuf>,
    /// Print the secret.
    #[arg(long, group = "secret")]
    show_secret: bool,
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.chert.client()?;
        // Before Chert is asked: a secret with nowhere to go would be lost.
        let file = self.secret_file.as_deref().map(SecretFile::create).transpose()?;
        let wish = SubscriptionChange {
            url: Some(self.url),
            events: Some(self.events).filter(|events| !events.is_empty()),
            version: self.version,
            is_active: None,
        };
        let Created { subscription, secret } = match client.create_subscription(&wish).await {
            Ok(created) => created,
            Err(error) => {
                if let Some(file) = file {
                    file.remove();
                }
                return Err(error.into());
            }
        };
        outln!("created subscription {} to {}", subscription.id, subscription.url);
        let Some(secret) = secret else {
            if let Some(file) = file {
                file.remove();
            }
            anyhow::bail!("Chert did not tell its secret: delete the subscription, and create it again");
        };
        if self.show_secret {
            outln!("CHERT_WEBHOOK_SECRET={}", secret.expose_secret());
        }
        if let Some(file) = file {
            let path = file.path.display().to_string();
            file.write(&secret)
                .context("the secret could not be written and is lost: delete the subscription, and create it again")?;
            outln!("its secret is in {path}: give it to the workers as CHERT_WEBHOOK_SECRET");
        }
        Ok(())
    }
}

/// A file that only its owner may read.
struct SecretFile {
    path: PathBuf,
    file: File,
}

impl SecretFile {
    fn create(path: &Path) -> anyhow::Result<SecretFile> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("creating the secret's file {}", path.display()))?;
        Ok(SecretFile { path: path.to_owned(), file })
    }

    fn write(mut self, secret: &SecretString) -> std::io::Result<()> {
        self.file.write_all(secret.expose_secret().as_bytes())?;
        self.file.write_all(b"\n")?;
        self.file.sync_all()
    }

    /// Takes it away again, empty as it is.
    fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox webhooks update ws_1 --active false
  chert-outbox webhooks update ws_1 --event message.received --event reaction.added
  chert-outbox webhooks update ws_1 --all-events")]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub struct Update {
    #[command(flatten)]
    chert: ChertOptions,
    /// The subscription's id, as `webhooks list` shows it.
    id: String,
    /// Post to this address.
    #[arg(long, group = "what")]
    url: Option<String>,
    /// Only events of this type; may be given again.
    #[arg(long = "event", group = "what", value_name = "TYPE")]
    events: Vec<String>,
    /// Events of every type.
    #[arg(long, group = "what", conflicts_with = "events")]
    all_events: bool,
    /// The version of the envelope.
    #[arg(long, group = "what", value_name = "DATE")]
    version: Option<String>,
    /// Whether it is delivered to: true or false.
    #[arg(long, group = "what")]
    active: Option<bool>,
}

impl Update {
    async fn run(self) -> anyhow::Result<()> {
        let change = SubscriptionChange {
            url: self.url,
            events: Some(self.events).filter(|events| self.all_events || !events.is_empty()),
            version: self.version,
            is_active: self.active,
        };
        let one = self.chert.client()?.update_subscription(&self.id, &change).await?;
        let state = if one.is_active { "active" } else { "off" };
        outln!("subscription {} is {state}: {} to {}", one.id, events(&one), one.url);
        Ok(())
    }
}

#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    chert: ChertOptions,
    /// The subscriptions' ids.
    #[arg(required = true)]
    ids: Vec<String>,
}
