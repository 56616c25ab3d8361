//! `synddb inspect` of the objects that real processes stored.

use std::fs;
use std::path::Path;

use serde_json::Value;
use synddb_protocol::hash::{ChunkHash, CommitDigest};
use synddb_protocol::id::{
    CommitNumber, Epoch, Incarnation, IncarnationCounter, IncarnationNonce, PartIndex,
};
use synddb_protocol::id::{Sequence, StreamId, Timestamp};
use synddb_protocol::log::{
    Batch, Body, Endorsement, Entry, Manifest, Message, MessageHeader, MessageType, PagePlaces, Patch,
    Receipt, Refusal, RefusalWhy, Resolution, ResolvedBy, Status, StatusLevel,
};
use synddb_protocol::signing::{Domain, RegisteredSigner, SigningKey, VerifyingKey};
use synddb_protocol::state::Value as Stored;
use synddb_protocol::submission::{
    Changes, Chunk, CommitKind, Content, PageSize, Part, Submission, TextEncoding,
};
use synddb_sqlite::as_sql::statement;
use synddb_sqlite::changeset::{RowChange, Table, write_insert, write_table};
use synddb_sqlite::rusqlite::{Connection, types::ValueRef};

use crate::processes::{run, synddb};
use crate::programs::{shown, sql};
use crate::verified::{OTHER_KEY, Stored as Log};

/// What it says of a file.
fn inspect(file: &Path, more: &[&str]) -> (i32, String, String) {
    let mut command = synddb(["inspect"]);
    command.arg(file).args(more);
    let (exit, told, errors) = run(command);
    for text in [&told, &errors] {
        assert!(!text.chars().any(|one| one.is_control() && one != '\n'), "a terminal obeys this: {text:?}");
    }
    (exit, told, errors)
}

/// The same as objects, all of them shown.
fn pieces(file: &Path, more: &[&str]) -> Vec<Value> {
    let (exit, told, errors) = inspect(file, &[&["--json"], more].concat());
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    let pieces: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(pieces.iter().all(|piece| piece["event"] == "shown"), "{told}");
    pieces
}

/// The first line of what it refuses, with exit code 2.
fn refused(file: &Path, text: &str) {
    let (exit, told, errors) = inspect(file, &[]);
    assert_eq!(exit, 2, "{told}");
    assert!(errors.contains(text), "`{text}` is not in: {errors}");
}

#[test]
fn every_object_of_a_log_is_shown() {
    let log = Log::make(
        "INSERT INTO t VALUES (2, 'red' || char(27) || '[31m'), (3, x'00ff'); CREATE TABLE \"e\u{1b}[2J\" (a);",
        "WITH RECURSIVE n(i) AS (VALUES (10) UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO t SELECT i, NULL FROM n;
         UPDATE t SET c2 = 0.5 WHERE k1 = 1; DELETE FROM t WHERE k1 = 3; PRAGMA user_version = 7;",
    );
    let scratch = tempfile::tempdir().unwrap();
    let key_id = log.key.parse::<VerifyingKey>().unwrap().id().to_string();
    for (epoch, file) in log.files("epochs").into_values().enumerate() {
        let (exit, told, errors) = inspect(&file, &["--sequencer-key", &log.key]);
        assert_eq!((exit, errors.as_str()), (0, ""));
        assert!(told.contains(&format!("claims epoch {}", epoch + 1)), "{told}");
        assert!(told.contains("a valid signature, trusted\n"), "{told}");
    }
    let (mut all, mut size) = (String::new(), 0);
    let (mut types, mut rows) = (Vec::new(), Vec::new());
    for file in log.files("batches").into_values() {
        let (exit, told, errors) = inspect(&file, &[]);
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
        assert!(told.contains("trusted by nobody: no --sequencer-key is given"), "{told}");
        let (_, other, _) = inspect(&file, &["--sequencer-key", OTHER_KEY]);
        assert!(other.contains("NOT trusted: none of the keys given"), "{other}");
        all += &told;
        all += &inspect(&file, &["--limit", "1000"]).1;
        let shown = pieces(&file, &["--limit", "1000"]);
        let signed = shown.iter().filter(|piece| piece["object"] == "message");
        for piece in signed {
            assert_eq!((&piece["trust"], &piece["key_id"]), (&"no_keys".into(), &key_id.as_str().into()));
        }
        let text = |piece: &Value, name: &str| piece[name].as_str().unwrap_or_default().to_owned();
        types.extend(
            shown
                .iter()
                .filter(|piece| piece["object"] == "message")
                .map(|piece| text(piece, "message_type")),
        );
        rows.extend(shown.iter().filter(|piece| piece["object"] == "row").map(|piece| text(piece, "sql")));
        assert!(shown.iter().all(|piece| piece["object"] != "body" || piece["is_signed"] == true));

        let batch = Batch::from_stored(&fs::read(&file).unwrap()).unwrap();
        size = batch.last().get();
        let parts = [
            ("checkpoint of", batch.checkpoint().to_bytes()),
            ("message ", batch.messages()[0].receipt.to_bytes()),
            ("message ", batch.messages()[0].to_bytes()),
            ("batch of ", batch.to_cbor()),
        ];
        for (begins, bytes) in parts {
            let part = scratch.path().join("part");
            fs::write(&part, bytes).unwrap();
            let (exit, told, errors) = inspect(&part, &[]);
            assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
            assert!(told.starts_with(begins), "{told}");
        }
    }
    for name in ["submission", "snapshot", "epoch"] {
        assert!(types.iter().any(|found| found == name), "{types:?}");
    }
    for text in [
        "'red' || char(27) || '[31m'",
        "x'00ff'",
        "create table e\\u{1b}[2J",
        "CREATE TABLE \"e\\u{1b}[2J\" (a)",
        "UPDATE \"t\" SET c2 = 0.5 WHERE k1 IS 1 AND c2 IS 'one';",
        "DELETE FROM \"t\" WHERE k1 IS 3 AND c2 IS x'00ff';",
        "PRAGMA user_version = 7;",
        "pages of 4096 bytes, UTF-8",
        "more rows; --limit shows more",
    ] {
        assert!(all.contains(text), "`{text}` is not in {all}");
    }

    // What is shown of all rows, run by the shell, is the table.
    let (again, app) = (scratch.path().join("again.db"), scratch.path().join("app.db"));
    let table = "CREATE TABLE t (k1 INTEGER PRIMARY KEY, c2);\nINSERT INTO t VALUES (1, 'one');\n";
    let changes: Vec<&str> = rows.iter().map(String::as_str).filter(|row| row.contains("\"t\"")).collect();
    assert_eq!(changes.len(), 2 + 391 + 2, "{changes:?}");
    sql(&again, &format!("{table}{}", changes.join("\n")));
    sql(
        &app,
        &format!(
            "{table}INSERT INTO t VALUES (2, 'red' || char(27) || '[31m'); UPDATE t SET c2 = 0.5 WHERE k1 = 1;
             WITH RECURSIVE n(i) AS (VALUES (10) UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO t SELECT i, NULL FROM n;"
        ),
    );
    assert_eq!(shown(&again), shown(&app));

    // By its place, each message alone.
    for sequence in 1..=size {
        let mut command = synddb(["inspect", "--store", &log.url(), "--stream", &log.stream]);
        command.args(["--sequence", &sequence.to_string()]);
        let (exit, told, errors) = run(command);
        assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
        let messages: Vec<&str> = told.lines().filter(|line| line.starts_with("message ")).collect();
        assert!(
            matches!(&messages[..], [one] if one.starts_with(&format!("message {sequence}: "))),
            "{told}"
        );
    }
    let mut command = synddb(["inspect", "--store", &log.url(), "--stream", &log.stream]);
    command.args(["--sequence", &(size + 1).to_string()]);
    let (exit, _, errors) = run(command);
    assert_eq!(exit, 2);
    assert!(errors.contains("no batch of the store holds this message"), "{errors}");

    // What is none says what it looks like.
    refused(
        &log.files("chunks").into_values().next().unwrap(),
        "a zstd frame that is no batch; chunks and bodies are not shown",
    );
    let batch = fs::read(log.files("batches").into_values().next().unwrap()).unwrap();
    let record = fs::read(log.files("epochs").into_values().next().unwrap()).unwrap();
    let wrong = [
        (batch[..batch.len() - 1].to_vec(), "a zstd frame that is no batch"),
        (record[..record.len() - 1].to_vec(), "this looks like a COSE_Sign1"),
        ([&[0x82], &record[..]].concat(), "this looks like a message"),
        (b"0xd284".to_vec(), "it looks like text"),
        (Vec::new(), "it is empty"),
        (fs::read(&app).unwrap(), "it looks like a database"),
    ];
    for (bytes, text) in wrong {
        let file = scratch.path().join("wrong");
        fs::write(&file, bytes).unwrap();
        refused(&file, text);
    }
}

#[test]
fn a_manifest_is_shown_with_its_checkpoint_and_what_it_is_made_of() {
    let log = Log::make("INSERT INTO t VALUES (2, 3)", "INSERT INTO t VALUES (4, 5)");
    let batch = fs::read(log.files("batches").into_values().next_back().unwrap()).unwrap();
    let checkpoint = Batch::from_stored(&batch).unwrap().checkpoint().clone();
    let chunk = |name: &[u8], pages| Chunk { hash: ChunkHash::of(name), pages, stored_bytes: 1000 };
    let places = vec![PagePlaces { first: Some(3), pages: 2 }, PagePlaces { first: None, pages: 5 }];
    let size = checkpoint.claim().size;
    let manifest = Manifest {
        checkpoint,
        encoding: TextEncoding::Utf16Le,
        page_size: PageSize::new(1024).unwrap(),
        runs: vec![chunk(b"one", 8), chunk(b"two", 4)],
        patches: vec![Patch { chunk: chunk(b"patch", 7), places }],
    };
    let key = SigningKey::from_bytes([7; 32]).unwrap();
    let mut bytes = manifest.sign(&key).unwrap().to_bytes();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("manifest");
    fs::write(&file, &bytes).unwrap();
    let (exit, told, errors) = inspect(&file, &["--sequencer-key", &log.key]);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    for text in [
        format!("manifest of a snapshot at message {size}"),
        format!("key id {}, a valid signature, NOT trusted", key.id()),
        "12 pages of 1024 bytes, UTF-16le, in 2 runs and 1 patch of 3000 bytes together".to_owned(),
        format!("checkpoint of {size} message"),
        "a valid signature, trusted\n".to_owned(),
        format!("chunk   {}, 8 pages, 1000 bytes", ChunkHash::of(b"one")),
        format!("patch   {}, 2 of 7 pages laid in 1 place, 1000 bytes", ChunkHash::of(b"patch")),
    ] {
        assert!(told.contains(&text), "`{text}` is not in {told}");
    }
    let (_, told, _) = inspect(&file, &["--limit", "1"]);
    assert!(told.contains("and 1 more run;") && !told.contains("more patch"), "{told}");
    let kinds: Vec<_> = pieces(&file, &[]).iter().map(|piece| piece["object"].clone()).collect();
    assert_eq!(kinds, ["manifest", "checkpoint", "chunk", "chunk", "patch"]);
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert!(inspect(&file, &[]).1.contains("NOT a signature of that key"));
}

#[test]
fn what_a_validator_endorses_and_refuses_is_shown() {
    let log = Log::make("INSERT INTO t VALUES (2, 3)", "INSERT INTO t VALUES (4, 5)");
    let batch = fs::read(log.files("batches").into_values().next_back().unwrap()).unwrap();
    let checkpoint = Batch::from_stored(&batch).unwrap().checkpoint().clone();
    let claim = checkpoint.claim().clone();
    let signer = RegisteredSigner::unattested(SigningKey::from_bytes([7; 32]).unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("object");

    let domain = Domain { chain_id: 31337, contract: signer.id() };
    let endorsement = Endorsement::sign(checkpoint.clone(), domain, &signer).unwrap();
    let mut bytes = endorsement.to_bytes();
    fs::write(&file, &bytes).unwrap();
    let (exit, told, errors) = inspect(&file, &["--sequencer-key", &log.key]);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    for text in [
        format!("endorsement of the checkpoint of message {}", claim.size),
        format!("signed    by key id {}", signer.id()),
        format!("for       the contract {} on chain 31337", signer.id()),
        "proof     nothing".to_owned(),
        format!("digest    {}", endorsement.digest()),
        format!("checkpoint of {} message", claim.size),
        "a valid signature, trusted\n".to_owned(),
    ] {
        assert!(told.contains(&text), "`{text}` is not in {told}");
    }
    let kinds = |file| pieces(file, &[]).iter().map(|piece| piece["object"].clone()).collect::<Vec<_>>();
    assert_eq!(kinds(&file), ["endorsement", "checkpoint"]);
    *bytes.last_mut().unwrap() = 0;
    fs::write(&file, &bytes).unwrap();
    assert!(inspect(&file, &[]).1.contains("by NOBODY"));
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    refused(&file, "this looks like an endorsement, and is none");
    let nowhere = Endorsement::sign(checkpoint, Domain::NONE, &signer).unwrap();
    fs::write(&file, nowhere.to_bytes()).unwrap();
    assert!(inspect(&file, &[]).1.contains("for       no chain"));

    let refusal = Refusal {
        stream: claim.stream,
        epoch: claim.epoch,
        sequence: claim.size,
        timestamp: claim.timestamp,
        rule: "no negative\u{1b}[2J balance".to_owned(),
        incarnation: claim.client.unwrap().incarnation.counter,
        commit: Some(CommitNumber::FIRST),
        why: RefusalWhy::Rows,
        detail: "first line\nsecond".to_owned(),
        rows: r#"{"columns":["account"],"rows":[["red"]]}"#.to_owned(),
        further: 3,
        resolution: None,
    };
    let resolution =
        Resolution { at: Timestamp::ZERO, by: ResolvedBy::RuleRemoved, because: "it was wrong".to_owned() };
    let resolved = Refusal { resolution: Some(resolution), ..refusal.clone() };
    fs::write(&file, refusal.sign(&signer).unwrap().to_bytes()).unwrap();
    let (exit, told, errors) = inspect(&file, &[]);
    assert_eq!((exit, errors.as_str()), (0, ""), "{told}");
    for text in [
        format!("refusal of message {} of epoch {}", claim.size, claim.epoch),
        format!("key id {}, a valid signature", signer.id()),
        "of        commit 1 of incarnation 1\n".to_owned(),
        "balance: rows violate it\n".to_owned(),
        r#"rows      {"columns":["account"],"rows":[["red"]]}"#.to_owned(),
        "further   3\n".to_owned(),
        "resolved  no\n".to_owned(),
    ] {
        assert!(told.contains(&text), "`{text}` is not in {told}");
    }
    assert_eq!(kinds(&file), ["refusal"]);
    assert!(inspect(&file, &["--value-bytes", "5"]).1.contains("rows      {\"col...\n"));
    fs::write(&file, resolved.sign(&signer).unwrap().to_bytes()).unwrap();
    assert!(inspect(&file, &[]).1.contains("since the rule was removed: it was wrong"));
}

/// A message of somebody, as a batch holds it.
fn message(entry: &Entry) -> Message {
    let header = MessageHeader {
        stream: StreamId::from_bytes([1; 32]),
        epoch: Epoch::FIRST,
        sequence: Sequence::FIRST,
        timestamp: Timestamp::from_ms((1 << 53) - 1).unwrap(),
        message_type: entry.message_type(),
    };
    Message::sign(header, Body::of(entry).unwrap(), &SigningKey::from_bytes([7; 32]).unwrap())
}

#[test]
fn objects_that_somebody_made_up_are_shown_as_what_they_are() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("message");
    let reason = "late\u{1b}[2J\u{9b}2J\r".to_owned();
    let status = message(&Entry::Status(Status { level: StatusLevel::Warned, reason }));
    fs::write(&file, status.to_bytes()).unwrap();
    let (exit, told, _) = inspect(&file, &[]);
    assert_eq!(exit, 0);
    assert!(told.contains("status warned: late\\u{1b}[2J\\u{9b}2J\\u{d}"), "{told}");
    assert!(told.contains("9007199254740991 ms after 1970"), "{told}");

    // A body that nobody signed under this receipt, and a receipt whose signature is cut.
    let other = message(&Entry::Status(Status { level: StatusLevel::Halted, reason: String::new() }));
    let mixed = Message { receipt: other.receipt.clone(), body: status.body };
    fs::write(&file, mixed.to_bytes()).unwrap();
    assert!(inspect(&file, &[]).1.contains("NOT the ones that were signed"));
    let mut forged = other.receipt.to_bytes();
    *forged.last_mut().unwrap() ^= 1;
    fs::write(&file, forged).unwrap();
    let (exit, told, _) = inspect(&file, &[]);
    assert_eq!(exit, 0);
    assert!(told.contains("NOT a signature of that key"), "{told}");

    // A body that cannot be opened is the error, behind what could be shown.
    let broken = Message { receipt: other.receipt, body: vec![1, 2, 3] };
    fs::write(&file, broken.to_bytes()).unwrap();
    let (exit, told, errors) = inspect(&file, &[]);
    assert_eq!(exit, 2);
    assert!(told.contains("message 1: status") && errors.contains("body cannot be opened"), "{told}{errors}");

    // Parts of a huge commit: the first is shown up to where it is cut, the others are not guessed at.
    let mut rows = Vec::new();
    write_table(&mut rows, &Table { name: "t".to_owned(), key: vec![true, false] });
    for number in 0..5 {
        write_insert(&mut rows, &[Stored::Integer(number), Stored::Text(b"value")]);
    }
    let part = |index: PartIndex, rows: &[u8]| {
        let changes = Changes { rows: rows.to_vec(), ..Changes::default() };
        let incarnation =
            Incarnation { counter: IncarnationCounter::FIRST, nonce: IncarnationNonce::from_bytes([1; 16]) };
        let prev = CommitDigest::from_bytes([2; 32]);
        let (number, kind) = (CommitNumber::FIRST, CommitKind::Transaction);
        let content = Content::Part(Part { number, prev, kind, index, changes, last: None });
        message(&Entry::Submission(Submission {
            stream: StreamId::from_bytes([1; 32]),
            incarnation,
            content,
        }))
    };
    let cut = rows.len() - 4;
    fs::write(&file, part(PartIndex::FIRST, &rows[..cut]).to_bytes()).unwrap();
    let (exit, told, _) = inspect(&file, &["--limit", "3"]);
    assert_eq!((exit, told.matches("INSERT INTO").count()), (0, 3), "{told}");
    assert!(told.contains("and 1 more row;") && told.contains("goes on in the next part"), "{told}");
    fs::write(&file, part(PartIndex::new(1).unwrap(), &rows[cut..]).to_bytes()).unwrap();
    let (exit, told, _) = inspect(&file, &[]);
    assert_eq!(exit, 0);
    assert!(
        told.contains("part 1") && told.contains("begin inside the changes of an earlier part"),
        "{told}"
    );
}

#[test]
fn what_is_shown_of_a_row_is_the_row() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.db");
    let texts: [&[u8]; 8] = [
        b"",
        b"it's",
        b"a\0b",
        b"\0",
        "\u{1b}[31m\r\n\t\u{202e}é".as_bytes(),
        b"\xff\xfe",
        b"--/*",
        b";\n.quit\n",
    ];
    let many = "\u{7}x".repeat(500);
    let reals =
        [0.1, -0.0, 1.0, 1e15, 1e16, 1e300, 5e-324, f64::MAX, 1.0 / 3.0, f64::INFINITY, f64::NEG_INFINITY];
    let mut values = vec![
        Stored::Null,
        Stored::Integer(i64::MIN),
        Stored::Integer(i64::MAX),
        Stored::Text(many.as_bytes()),
    ];
    values.extend(texts.map(Stored::Text));
    values.extend(texts.map(Stored::Blob));
    values.extend(reals.map(Stored::Real));
    let table = Table { name: "a \"table\"".to_owned(), key: vec![true, false] };
    let mut script = "CREATE TABLE \"a \"\"table\"\"\" (k1 INTEGER PRIMARY KEY, c2);\n".to_owned();
    for (at, value) in values.iter().enumerate() {
        let new = vec![Stored::Integer(i64::try_from(at).unwrap()), *value];
        script += &statement(&table, &RowChange::Insert { new }, usize::MAX);
        script.push('\n');
    }
    sql(&file, &script);
    let sqlite = Connection::open(&file).unwrap();
    let mut select = sqlite.prepare("SELECT c2 FROM \"a \"\"table\"\"\" ORDER BY k1").unwrap();
    let mut rows = select.query([]).unwrap();
    for value in &values {
        let row = rows.next().unwrap().unwrap();
        let found = match row.get_ref(0).unwrap() {
            ValueRef::Null => Stored::Null,
            ValueRef::Integer(value) => Stored::Integer(value),
            ValueRef::Real(value) => Stored::Real(value),
            ValueRef::Text(bytes) => Stored::Text(bytes),
            ValueRef::Blob(bytes) => Stored::Blob(bytes),
        };
        assert_eq!(found, *value);
    }
    drop(rows);
    // What an update says that it was finds the row, and the other class of the same bytes does not.
    let old = vec![Some(Stored::Integer(5)), Some(values[5])];
    let new = vec![None, Some(Stored::Blob(b"it's"))];
    let update = statement(&table, &RowChange::Update { old, new }, usize::MAX);
    let changed = |update: &str| sql(&file, &format!("{update}\nSELECT changes();\n"));
    assert_eq!([changed(&update), changed(&update)].map(|told| told.trim().to_owned()), ["1", "0"]);
}

#[test]
fn evidence_is_shown_with_what_it_quotes_and_whether_it_proves_anything() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("3-17.json");
    let key = SigningKey::from_bytes([7; 32]).unwrap();
    let stream = StreamId::from_bytes([1; 32]);
    let receipt = |ms: u64| {
        let header = MessageHeader {
            stream,
            epoch: Epoch::new(3).unwrap(),
            sequence: Sequence::new(17).unwrap(),
            timestamp: Timestamp::from_ms(ms).unwrap(),
            message_type: MessageType::Submission,
        };
        hex::encode(Receipt::sign(header, b"a body", &key).to_bytes())
    };
    let evidence = |first: String, second: String| {
        let evidence = serde_json::json!({
            "version": 1, "finding": "receipts", "detail": "signed\u{1b}[2J twice", "stream": stream, "key": key.id(),
            "epoch": 3, "sequence": 17, "first": first, "second": second,
        });
        fs::write(&file, evidence.to_string()).unwrap();
    };
    evidence(receipt(1), receipt(2));
    let [shown, first, second] = &pieces(&file, &[])[..] else { panic!("not three") };
    assert_eq!((&shown["object"], &shown["unproven"]), (&"evidence".into(), &Value::Null));
    assert_eq!([&first["object"], &second["object"]], ["message", "message"]);
    assert_ne!(first["timestamp"], second["timestamp"]);
    let (exit, told, _) = inspect(&file, &[]);
    assert!(exit == 0 && told.contains("PROVEN by the two that follow"), "{told}");
    evidence(receipt(1), receipt(1));
    let (exit, told, _) = inspect(&file, &[]);
    assert!(exit == 0 && told.contains("NOT proven"), "{told}");
    evidence(receipt(1), "d2".to_owned());
    let (exit, told, _) = inspect(&file, &[]);
    assert!(exit == 2 && told.contains("NOT proven"), "{told}");
}
