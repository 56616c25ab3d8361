//! What a process is told about its logs and traces: by its configuration, and by the environment, which goes before it.
//!
//! | variable | says |
//! |---|---|
//! | `SYNDDB_LOG` | which lines are logged, as in `info,synddb_sequencer=debug` |
//! | `SYNDDB_LOG_FORMAT` | `text` or `json` |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | the collector; `/v1/traces` is added |
//! | `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` | the whole address that traces are posted to |
//! | `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TRACES_HEADERS` | headers of each request, as in `name=value,other=value`, percent-encoded |
//! | `OTEL_TRACES_SAMPLER_ARG` | the share of submissions that is traced, from `0` to `1`. All processes must be told the same |
//! | `OTEL_SDK_DISABLED` | `true` for no traces |

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use synddb_protocol::trace::Sampling;
use url::Url;

use super::TelemetryError;

/// How lines are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line, as log services read them.
    Json,
}

/// What a configuration says of logs and traces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How lines are logged: `text` or `json`. Left out, it is what the command uses.
    #[schemars(example = &"json")]
    pub log: Option<Format>,
    /// Which lines are logged, as in `info,synddb_sequencer=debug`. Left out, it is what the command uses.
    #[schemars(example = "info,synddb_sequencer=debug")]
    pub filter: Option<String>,
    /// The collector of traces, as in `http://127.0.0.1:4318` (OTLP over HTTP). Left out, there are no traces.
    #[schemars(example = "http://127.0.0.1:4318")]
    pub otlp: Option<String>,
    /// How many of a million submissions are traced. All processes choose the same ones when they are told the same.
    #[schemars(with = "u32")]
    pub samples_per_million: Sampling,
}

/// One in a hundred.
const SAMPLES: u32 = 10_000;

impl std::default::Default for Settings {
    fn default() -> Self {
        let samples_per_million = Sampling::try_from(SAMPLES).unwrap_or(Sampling::ALL);
        Self { log: None, filter: None, otlp: None, samples_per_million }
    }
}

/// What a command uses where nothing else is said.
#[derive(Debug, Clone, Copy)]
pub struct Default {
    /// How lines are logged.
    pub format: Format,
    /// Which ones.
    pub filter: &'static str,
}

/// Where traces are sent. The headers may be secrets, and are never printed.
#[derive(Clone)]
pub(super) struct Collector {
    pub(super) url: Url,
    pub(super) headers: Vec<(String, String)>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collector({})", self.url.host_str().unwrap_or_default())
    }
}

/// What holds after configuration, environment and defaults.
#[derive(Debug)]
pub(super) struct Effective {
    pub(super) format: Format,
    pub(super) filter: String,
    pub(super) collector: Option<Collector>,
    pub(super) sampling: Sampling,
}

const FORMAT: &str = "SYNDDB_LOG_FORMAT";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TRACES_HEADERS: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
const SHARE: &str = "OTEL_TRACES_SAMPLER_ARG";
const DISABLED: &str = "OTEL_SDK_DISABLED";

impl Effective {
    pub(super) fn of(
        settings: &Settings,
        default: Default,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, TelemetryError> {
        // The standard has a variable that is empty mean the same as one that is not there.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let format = match variable(FORMAT).as_deref() {
            None => settings.log.unwrap_or(default.format),
            Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => return Err(refused(FORMAT, other, "set it to `text` or `json`")),
        };
        let filter = variable(crate::process::LOG).or_else(|| settings.filter.clone());
        let sampling = match variable(SHARE) {
            None => settings.samples_per_million,
            Some(share) => {
                sampling(&share).ok_or_else(|| refused(SHARE, &share, "set it to a number from 0 to 1"))?
            }
        };
        let collector = collector(settings, &variable)?;
        let filter = filter.unwrap_or_else(|| default.filter.to_owned());
        Ok(Self { format, filter, collector, sampling })
    }
}

fn collector(
    settings: &Settings,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Collector>, TelemetryError> {
    if variable(DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let whole = variable(TRACES_ENDPOINT);
    let base = || variable(ENDPOINT).or_else(|| settings.otlp.clone());
    let at_base = |base: String| format!("{}/v1/traces", base.trim_end_matches('/'));
    let Some(address) = whole.or_else(|| base().map(at_base)) else { return Ok(None) };
    let url =
        Url::parse(&address).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else { return Err(TelemetryError::Collector { url: address }) };
    let mut headers = Vec::new();
    for name in [HEADERS, TRACES_HEADERS] {
        for pair in
            variable(name).iter().flat_map(|list| list.split(',')).filter(|pair| !pair.trim().is_empty())
        {
            // What stands there may be a secret, and is not repeated.
            let (header, value) = pair
                .split_once('=')
                .ok_or_else(|| refused(name, "(hidden)", "write it like `name=value,other=value`"))?;
            headers.push((header.trim().to_owned(), percent_decoded(value.trim())));
        }
    }
    Ok(Some(Collector { url, headers }))
}

/// As a form decodes it, but for the plus sign, which stands for itself in a header.
fn percent_decoded(value: &str) -> String {
    let kept = value.replace('+', "%2B");
    url::form_urlencoded::parse(kept.as_bytes())
        .map(|(name, rest)| {
            // A `=` in the value parts it for a form.
            if value.contains('=') { format!("{name}={rest}") } else { name.into_owned() }
        })
        .next()
        .unwrap_or_default()
}

fn refused(name: &'static str, value: &str, fix: &'static str) -> TelemetryError {
    TelemetryError::Variable { name, value: value.to_owned(), fix }
}

fn sampling(share: &str) -> Option<Sampling> {
    let share: f64 = share.parse().ok().filter(|share| (0.0..=1.0).contains(share))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to a million")]
    let per_million = (share * 1e6).round() as u32;
    Sampling::try_from(per_million).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective(settings: &Settings, environment: &[(&str, &str)]) -> Result<Effective, TelemetryError> {
        let default = Default { format: Format::Text, filter: "info" };
        Effective::of(settings, default, |name| {
            environment.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_goes_before_the_configuration_which_goes_before_the_command() {
        let settings =
            Settings { log: Some(Format::Json), otlp: Some("http://a:1".to_owned()), ..Settings::default() };
        let read = effective(&settings, &[]).unwrap();
        assert_eq!((read.format, read.filter.as_str()), (Format::Json, "info"));
        assert_eq!(read.collector.unwrap().url.as_str(), "http://a:1/v1/traces");
        let read = effective(
            &settings,
            &[(FORMAT, "text"), ("SYNDDB_LOG", "debug"), (ENDPOINT, "https://b/otel/"), (SHARE, "1")],
        )
        .unwrap();
        assert_eq!((read.format, read.filter.as_str()), (Format::Text, "debug"));
        assert_eq!(read.collector.unwrap().url.as_str(), "https://b/otel/v1/traces");
        assert_eq!(read.sampling, Sampling::ALL);
        let whole = effective(&settings, &[(ENDPOINT, "http://b"), (TRACES_ENDPOINT, "http://c/t")]).unwrap();
        assert_eq!(whole.collector.unwrap().url.as_str(), "http://c/t");
        assert!(effective(&settings, &[(DISABLED, "true")]).unwrap().collector.is_none());
        assert!(effective(&Settings::default(), &[(ENDPOINT, "")]).unwrap().collector.is_none());
    }

    #[test]
    fn headers_are_decoded_and_never_printed() {
        let environment = [(ENDPOINT, "http://b"), (HEADERS, "authorization=Bearer%20se+cret==,x-a = 1")];
        let collector = effective(&Settings::default(), &environment).unwrap().collector.unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(collector.headers, [pair("authorization", "Bearer se+cret=="), pair("x-a", "1")]);
        assert!(!format!("{collector:?}").contains("cret"), "{collector:?}");
    }

    #[test]
    fn what_is_refused_names_its_variable() {
        for (name, value) in [(FORMAT, "xml"), (SHARE, "2"), (SHARE, "some")] {
            let refused = effective(&Settings::default(), &[(name, value)]).unwrap_err().to_string();
            assert!(refused.contains(name) && refused.contains(value), "{refused}");
        }
        let hidden =
            effective(&Settings::default(), &[(ENDPOINT, "http://b"), (HEADERS, "secret")]).unwrap_err();
        assert!(hidden.to_string().contains(HEADERS) && !hidden.to_string().contains("secret"), "{hidden}");
        let refused = effective(&Settings::default(), &[(ENDPOINT, "b:4317")]).unwrap_err().to_string();
        assert!(refused.contains("b:4317/v1/traces"), "{refused}");
    }
}
