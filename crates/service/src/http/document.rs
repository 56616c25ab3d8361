//! The OpenAPI document of a process, made of the same routes that it serves, so that the two cannot part.
//!
//! A handler says beside itself what it takes and answers (`utoipa::path`), and [`routes!`](utoipa_axum::routes) makes of it a route and a
//! piece of the document at once. What is the same everywhere is added here: the probes, the problems that any request can meet, the
//! stream in the path, and how a request shows that it may write.

use std::collections::BTreeMap;

use synddb_protocol::http::{EVIDENCE_HEADER, Problem, Reason};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Content, Header, InfoBuilder, LicenseBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
    Schema,
};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;

use super::PROBLEM_JSON;

/// What the routes of one stream have before them.
const OF_STREAM: &str = "/streams/{stream}/";

/// The names of the security schemes, as operations name them.
const BEARER: &str = "bearer";
const CERTIFICATE: &str = "certificate";
const EVIDENCE: &str = "evidence";

/// Problems that any request can meet: on a loopback address a web page is refused, a handler may fail, or take longer than the deadline.
const EVERYWHERE: [&str; 3] = ["unauthorized", "internal", "unavailable"];

/// What a document is of.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// The name of the process.
    pub title: &'static str,
    /// What it is for.
    pub description: &'static str,
}

/// The problems of an operation, as responses by their status: those with these codes, and those that any request can meet.
///
/// Declared by [`refusals!`](crate::refusals), which makes sure that the codes exist.
pub fn refused(codes: &[&str]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for reason in Reason::of_each() {
        let code = reason.code();
        if codes.contains(&code) || EVERYWHERE.contains(&code) {
            by_status.entry(reason.status()).or_default().push(code);
        }
    }
    let response = |(status, codes): (u16, Vec<_>)| (status.to_string(), problem(status, &codes).into());
    by_status.into_iter().map(response).collect()
}

/// Declares a type that stands for the problems of an operation among its responses, by their codes.
///
/// ```
/// synddb_service::refusals! {
///     /// Of an operation that looks something up.
///     OfLookUp: "not_found", "busy"
/// }
/// let responses = <OfLookUp as utoipa::IntoResponses>::responses();
/// assert!(responses.contains_key("404") && responses.contains_key("429"));
/// ```
#[macro_export]
macro_rules! refusals {
    ($(#[$doc:meta])* $name:ident: $($code:literal),* $(,)?) => {
        $(#[$doc])*
        struct $name;

        const _: () = {
            $(assert!($crate::http::is_code($code), "a problem has this code");)*
        };

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::response::Response>,
            > {
                $crate::http::refused(&[$($code),*])
            }
        }
    };
}

/// Declares a type that describes a body of bytes: how many there are at most, and what they are.
#[macro_export]
macro_rules! binary {
    ($(#[$doc:meta])* $name:ident: $max:expr, $what:literal) => {
        $(#[$doc])*
        struct $name;

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $crate::http::bytes($what, $max)
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

/// Whether a problem can have this code. For [`refusals!`](crate::refusals), at compile time.
pub const fn is_code(code: &str) -> bool {
    let (mut at, code) = (0, code.as_bytes());
    while at < Reason::CODES.len() {
        if same(Reason::CODES[at].as_bytes(), code) {
            return true;
        }
        at += 1;
    }
    false
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// The schema of a body of bytes; `max` is their bound, where there is one.
pub fn bytes(what: &str, max: Option<usize>) -> RefOr<Schema> {
    let schema = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).description(Some(what));
    schema
        .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::Binary)))
        .max_length(max)
        .into()
}

/// The document of a process with these routes, and with those that every process has.
pub fn document<S>(about: &About, routes: OpenApiRouter<S>) -> OpenApi
where
    S: Clone + Send + Sync + 'static,
{
    let mut document = super::probe::probes().into_openapi();
    document.merge(routes.into_openapi());
    let license =
        LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build();
    document.info = InfoBuilder::new()
        .title(about.title)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(about.description))
        .license(Some(license))
        .build();
    let mut writes = false;
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.put, &mut item.post];
        for operation in operations.into_iter().flatten() {
            writes |= operation.security.is_some();
            if path.starts_with(OF_STREAM) {
                name_stream(operation);
            }
        }
    }
    let components = document.components.get_or_insert_default();
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    components.schemas.extend(schemas);
    if writes {
        components.add_security_scheme(BEARER, bearer());
        components.add_security_scheme(CERTIFICATE, certificate());
        components.add_security_scheme(EVIDENCE, evidence());
    }
    document
}

/// The document as bytes, as it is served and checked in.
pub fn rendered(document: &OpenApi) -> Vec<u8> {
    let text = serde_json::to_string_pretty(document).unwrap_or_default();
    // The registry of formats of OpenAPI says `uint64` where utoipa says `u-int64`.
    let mut text = text.replace(r#""format": "u-int"#, r#""format": "uint"#);
    text.push('\n');
    text.into_bytes()
}

fn problem(status: u16, codes: &[&str]) -> Response {
    let listed: Vec<_> = codes.iter().map(|code| format!("[`{code}`](/problems/{code})")).collect();
    let code = ObjectBuilder::new()
        .schema_type(SchemaType::new(Type::String))
        .enum_values(Some(codes.iter().copied()));
    let narrowed = ObjectBuilder::new().property("code", code).required("code");
    let schema = AllOfBuilder::new().item(Ref::from_schema_name(Problem::name())).item(narrowed);
    let response = ResponseBuilder::new()
        .description(listed.join(", "))
        .content(PROBLEM_JSON, Content::new(Some(Schema::AllOf(schema.build()))));
    let header = |schema_type: Type, what: &str| {
        let mut header = Header::new(ObjectBuilder::new().schema_type(SchemaType::new(schema_type)));
        header.description = Some(what.to_owned());
        header
    };
    match status {
        401 => response.header(
            "WWW-Authenticate",
            header(
                Type::String,
                "The scheme of the credential that is asked for (RFC 9110, section 11.6.1).",
            ),
        ),
        429 | 503 => response.header(
            "Retry-After",
            header(Type::Integer, "Seconds after which a retry may succeed, where one may."),
        ),
        _ => response,
    }
    .build()
}

/// Tells an operation of a stream that is named from the same one of the only stream.
fn name_stream(operation: &mut Operation) {
    if let Some(id) = &mut operation.operation_id {
        id.push_str("_of_stream");
    }
    operation.parameters.get_or_insert_default().insert(0, RefOr::T(stream()));
}

fn stream() -> Parameter {
    let schema =
        ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).pattern(Some("^(0x)?[0-9a-f]{64}$"));
    ParameterBuilder::new()
        .name("stream")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The stream, in hex."))
        .schema(Some(schema))
        .build()
}

fn bearer() -> SecurityScheme {
    let told = "A token that the process lists (RFC 6750, section 2.1).";
    SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(told)).build())
}

fn certificate() -> SecurityScheme {
    let told = "The client's certificate, where the process speaks TLS, asks for one and lists it.";
    SecurityScheme::MutualTls { description: Some(told.to_owned()), extensions: None, deprecated: None }
}

fn evidence() -> SecurityScheme {
    let told =
        "Evidence of a trusted execution environment, fresh for each request, where the process checks it.";
    SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(EVIDENCE_HEADER, told)))
}
