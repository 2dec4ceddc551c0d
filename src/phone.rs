//! A recipient's number, checked once.

use std::fmt;
use std::str::FromStr;

/// A phone number in E.164: `+`, then 7 to 15 digits that do not start with 0, e.g. `+15550142200`. Shown masked: the
/// whole number is for the database and the API only.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Phone(String);

/// The text was not an E.164 number. The text itself stays out of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("phone is not E.164: write + and the country code, then only digits, 7 to 15 in all, e.g. +15550142200")]
pub struct NotE164;

impl Phone {
    /// The whole number, for the database and the API.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Phone {
    type Err = NotE164;

    fn from_str(text: &str) -> Result<Phone, NotE164> {
        let digits = text.strip_prefix('+').ok_or(NotE164)?;
        let valid = (7..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        if valid { Ok(Phone(text.to_owned())) } else { Err(NotE164) }
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first two and the last four characters, e.g. `+1*****2200`; the same as `outbox.masked` in the database.
pub fn masked(phone: &str) -> String {
    let shown: Vec<char> = phone.chars().collect();
    let hidden = shown.len().saturating_sub(6);
    let tail = shown.len().saturating_sub(4);
    shown.iter().take(2).copied().chain(std::iter::repeat_n('*', hidden)).chain(shown[tail..].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_e164_is_a_phone() {
        assert_eq!(
            "+15550142200".parse::<Phone>().map(|phone| phone.as_str().to_owned()),
            Ok("+15550142200".to_owned())
        );
        for bad in
            ["", "+", "15550142200", "+05550142200", "+1555", "+1555014220000000", "+1 555 014 2200", "+1555０142200"]
        {
            assert_eq!(bad.parse::<Phone>(), Err(NotE164), "{bad}");
        }
    }

    #[test]
    fn i12_a_phone_is_shown_masked() {
        let phone: Phone = "+15550142200".parse().expect("valid");
        assert_eq!(format!("{phone} {phone:?}"), "+1******2200 +1******2200");
    }
}
