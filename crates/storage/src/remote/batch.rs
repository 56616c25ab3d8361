//! What Azure refuses of a removal. Its client removes by a batch of requests, and the batch succeeds whatever becomes of each: a status and a
//! code stand in the body, as those of an answer would in its head. The client keeps the status of an object alone, and drops the code.

/// The status and the code of the first request of a batch that was refused. What was absent is not refused.
pub(super) fn refused_in(body: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(body);
    let mut refused = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            if refused.is_some() {
                break;
            }
            let status: u16 = rest.split(' ').next()?.trim().parse().ok()?;
            refused = (status >= 400 && status != 404).then(|| (status, String::new()));
        } else if let (Some((_, code)), Some((name, value))) = (&mut refused, line.split_once(':'))
            && name.eq_ignore_ascii_case("x-ms-error-code")
        {
            value.trim().clone_into(code);
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of a batch as the platform's documentation shows them.
    fn answers(parts: &[(&str, Option<&str>)]) -> String {
        let part = |(index, (status, code)): (usize, &(&str, Option<&str>))| {
            let code = code.map_or_else(String::new, |code| format!("x-ms-error-code: {code}\r\n"));
            format!(
                "--batchresponse_1\r\nContent-Type: application/http\r\nContent-ID: {index}\r\n\r\nHTTP/1.1 {status}\r\n{code}\
                 x-ms-request-id: 778fdc83\r\nx-ms-version: 2018-11-09\r\n\r\n"
            )
        };
        parts.iter().enumerate().map(part).collect::<String>() + "--batchresponse_1--\r\n"
    }

    #[test]
    fn the_first_refusal_is_found_with_its_code() {
        let of = |parts: &[(&str, Option<&str>)]| refused_in(answers(parts).as_bytes());
        let gone = ("202 Accepted", None);
        let absent = ("404 The specified blob does not exist.", Some("BlobNotFound"));
        let kept = ("409 This operation is not permitted.", Some("BlobImmutableDueToPolicy"));
        let held = ("412 There is currently a lease.", Some("LeaseIdMissing"));
        assert_eq!(of(&[gone, absent]), None);
        assert_eq!(of(&[gone, absent, kept, held]), Some((409, "BlobImmutableDueToPolicy".to_owned())));
        assert_eq!(of(&[held]), Some((412, "LeaseIdMissing".to_owned())));
        assert_eq!(of(&[("403 Denied", None), kept]), Some((403, String::new())));
        for nothing in ["", "HTTP/1.1 ", "HTTP/1.1 x", "x-ms-error-code: A"] {
            assert_eq!(refused_in(nothing.as_bytes()), None);
        }
    }
}
