"""The vectors in spec/vectors, checked with independent libraries.

Nothing of this project's code runs here: COSE by `cwt`, keys by `eth-keys`, EIP-712 by `eth-account`, CBOR by `cbor2`, hashes by
`hashlib` and `blake3`, the tree and the state hash written anew from spec/signing.md and spec/wire.md.
A vector that this file and the Rust tests both accept is what the specification says.
"""

import hashlib
import json
import struct
from pathlib import Path

import blake3
import cbor2
import cwt
import pytest
import zstandard
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak
from eth_keys import keys

VECTORS = Path(__file__).parent.parent / "vectors"
ES256K, SHA_256, SECP256K1, EC2 = -47, -16, 8, 2
LABELS = {"sequence": -65537, "timestamp": -65538, "type": -65539, "stream": -65540, "epoch": -65541}


def load(name):
    return json.loads((VECTORS / name).read_text())


def unhex(text):
    assert text.startswith("0x")
    return bytes.fromhex(text[2:])


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


MESSAGES, CHECKPOINTS, EPOCHS = load("messages.json"), load("checkpoints.json"), load("epochs.json")
MANIFESTS = load("manifests.json")
REFUSALS = load("refusals.json")
SIGNED = [
    pytest.param(file, vector, id=f"{kind}-{number}")
    for kind, file in [("message", MESSAGES), ("checkpoint", CHECKPOINTS), ("epoch", EPOCHS), ("manifest", MANIFESTS), ("refusal", REFUSALS)]
    for number, vector in enumerate(file["vectors"])
]


def cose_key(signer):
    """The signer's public key as a COSE_Key, named by its Ethereum address."""
    public = keys.PublicKey.from_compressed_bytes(unhex(signer["public"])).to_bytes()
    return cwt.COSEKey.new(
        {1: EC2, 2: unhex(signer["address"]), 3: ES256K, -1: SECP256K1, -2: public[:32], -3: public[32:]}
    )


@pytest.mark.parametrize("file, vector", SIGNED)
def test_cose_library_verifies(file, vector):
    aad = file["external_aad"].encode()
    cose = cwt.COSE.new()
    protected, unprotected, _ = cose.decode_with_headers(
        unhex(vector["cose"]), cose_key(file["signer"]), external_aad=aad
    )
    assert protected[1] == ES256K
    assert unprotected == {4: unhex(vector["key"])}
    assert protected[LABELS["stream"]] == unhex(vector["stream"])
    assert protected[LABELS["epoch"]] == vector["epoch"]


@pytest.mark.parametrize("file, vector", SIGNED)
def test_cose_library_refuses_another_kind(file, vector):
    with pytest.raises(cwt.VerifyError):
        cwt.COSE.new().decode(unhex(vector["cose"]), cose_key(file["signer"]), external_aad=b"synddb/other/v1")


@pytest.mark.parametrize("label", ["stream", "epoch"])
@pytest.mark.parametrize("file, vector", SIGNED)
def test_cose_library_refuses_another_stream_or_epoch(file, vector, label):
    tag = cbor2.loads(unhex(vector["cose"]))
    header = cbor2.loads(tag.value[0])
    header[LABELS[label]] = bytes(32) if label == "stream" else header[LABELS[label]] - 1
    moved = cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps(header), *tag.value[1:]]))
    with pytest.raises(cwt.VerifyError):
        cwt.COSE.new().decode(moved, cose_key(file["signer"]), external_aad=file["external_aad"].encode())


@pytest.mark.parametrize("file, vector", SIGNED)
def test_cose_library_refuses_a_changed_signature(file, vector):
    changed = bytearray(unhex(vector["cose"]))
    changed[-1] ^= 1
    with pytest.raises(cwt.VerifyError):
        cwt.COSE.new().decode(
            bytes(changed), cose_key(file["signer"]), external_aad=file["external_aad"].encode()
        )


@pytest.mark.parametrize("file, vector", SIGNED)
def test_ethereum_library_recovers_the_address(file, vector):
    protected, _, payload, signature = cbor2.loads(unhex(vector["cose"])).value
    structure = cbor2.dumps(["Signature1", protected, file["external_aad"].encode(), payload])
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    candidates = [
        keys.Signature(vrs=(v, r, s)).recover_public_key_from_msg_hash(sha256(structure)) for v in (0, 1)
    ]
    assert file["signer"]["address"] in [key.to_address() for key in candidates]
    assert vector["key"] == file["signer"]["address"]
    assert keys.PrivateKey(unhex(file["signer"]["secret"])).public_key in candidates


@pytest.mark.parametrize("file, vector", SIGNED)
def test_signing_again_gives_the_same_bytes(file, vector):
    protected, _, payload, signature = cbor2.loads(unhex(vector["cose"])).value
    structure = cbor2.dumps(["Signature1", protected, file["external_aad"].encode(), payload])
    secret = keys.PrivateKey(unhex(file["signer"]["secret"]))
    assert secret.sign_msg_hash(sha256(structure)).to_bytes()[:64] == signature


@pytest.mark.parametrize("vector", MESSAGES["vectors"], ids=lambda vector: vector["name"])
def test_messages(vector):
    cose = unhex(vector["cose"])
    assert len(cose) < 300
    protected, _, payload, _ = cbor2.loads(cose).value
    header = cbor2.loads(protected)
    assert header[258] == SHA_256
    for name in ("sequence", "timestamp", "type", "epoch"):
        assert header[LABELS[name]] == vector[name]
    assert payload == unhex(vector["body_hash"])
    assert sha256(b"\x00", cose) == unhex(vector["leaf"])
    if "body" in vector:
        body, content = unhex(vector["body"]), unhex(vector["content"])
        assert sha256(body) == payload
        assert zstandard.ZstdDecompressor().decompress(body) == content
        assert canonical(content)


def in_order(value):
    """The value with the keys of every map in ascending order of their encodings (RFC 8949, 4.2.1)."""
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value, key=cbor2.dumps)}
    if isinstance(value, list):
        return [in_order(item) for item in value]
    if isinstance(value, cbor2.CBORTag):
        return cbor2.CBORTag(value.tag, in_order(value.value))
    return value


def canonical(encoded):
    """Whether bytes are RFC 8949's core deterministic encoding of what they hold."""
    return cbor2.dumps(in_order(cbor2.loads(encoded))) == encoded


def test_the_check_for_canonical_form_can_fail():
    assert canonical(bytes.fromhex("a201000200"))
    assert not canonical(bytes.fromhex("a202000100")), "keys out of order"
    assert not canonical(bytes.fromhex("a1011800")), "a head longer than needed"


def test_commits_form_one_chain():
    file = load("commits.json")
    before = file["snapshot"]["digest"]
    assert sha256(unhex(file["snapshot"]["cbor"])) == unhex(before)
    for entry in file["entries"]:
        encoded = unhex(entry["cbor"])
        number, prev, *_ = cbor2.loads(encoded)
        assert number >= 1
        assert prev == unhex(entry["prev"]) == unhex(before)
        assert sha256(encoded) == unhex(entry["digest"])
        assert canonical(encoded)
        before = entry["digest"]
    commits = cbor2.loads(unhex(file["submission"]))[3]
    assert [cbor2.dumps(commit) for commit in commits] == [unhex(e["cbor"]) for e in file["entries"][:3]]


def test_epoch_records_are_bound_by_their_hash():
    for vector in EPOCHS["vectors"]:
        assert sha256(unhex(vector["cose"])) == unhex(vector["hash"])


@pytest.mark.parametrize("vector", MANIFESTS["vectors"], ids=lambda vector: vector["name"])
def test_manifests(vector):
    protected, _, encoded, _ = cbor2.loads(unhex(vector["cose"])).value
    assert canonical(encoded)
    payload = cbor2.loads(encoded)
    assert list(payload) == ([1, 2, 3, 4, 5] if vector["patches"] else [1, 2, 3, 4])
    checkpoint, encoding, page_size, runs = (payload[key] for key in (1, 2, 3, 4))
    cose = cbor2.dumps(checkpoint)
    assert cose == unhex(vector["checkpoint"])
    assert cose in [unhex(known["cose"]) for known in CHECKPOINTS["vectors"]]
    cwt.COSE.new().decode(cose, cose_key(CHECKPOINTS["signer"]), external_aad=CHECKPOINTS["external_aad"].encode())
    # Its header is its checkpoint's, without anything of its own.
    assert protected == checkpoint.value[0]
    assert cbor2.loads(protected)[LABELS["sequence"]] == vector["sequence"]
    assert cbor2.loads(checkpoint.value[2])[4][4] == unhex(vector["state"])
    assert (encoding, page_size) == (vector["encoding"], vector["page_size"])
    named = lambda chunk: [unhex(chunk[0]), *chunk[1:]]
    assert runs == [named(run) for run in vector["runs"]]
    pages = sum(run[1] for run in runs)
    patches = payload.get(5, [])
    assert len(patches) == len(vector["patches"])
    for (chunk, numbers), patch in zip(patches, vector["patches"]):
        assert chunk == named(patch["chunk"])
        places = [[first or None, count] for first, count in zip(numbers[::2], numbers[1::2], strict=True)]
        assert places == patch["places"]
        assert chunk[1] == sum(count for _, count in places)
        assert all(count > 0 and (first or 1) + count - 1 <= pages for first, count in places)


def wallet_agrees(vector, types, message, signer):
    """A wallet has the same digest, recovers the signer, and signs the same bytes (EIP-712)."""
    domain = {
        "name": "SyndDB",
        "version": "1",
        "chainId": int(vector["chain_id"]),
        "verifyingContract": vector["contract"],
    }
    signable = encode_typed_data(domain, types, message)
    digest = keccak(b"\x19" + signable.version + signable.header + signable.body)
    assert digest == unhex(vector["digest"])
    recovered = Account.recover_message(signable, signature=unhex(vector["signature"]))
    assert unhex(recovered) == unhex(signer["address"])
    signed = Account.sign_message(signable, unhex(signer["secret"]))
    assert bytes(signed.signature) == unhex(vector["signature"])


CHECKPOINT_TYPE = {
    "Checkpoint": [
        {"name": "stream", "type": "bytes32"},
        {"name": "epoch", "type": "uint64"},
        {"name": "sequence", "type": "uint64"},
        {"name": "timestamp", "type": "uint64"},
        {"name": "root", "type": "bytes32"},
        {"name": "stateHash", "type": "bytes32"},
        {"name": "inboxConsumed", "type": "uint64"},
    ]
}
ENDORSEMENTS = load("endorsements.json")


@pytest.mark.parametrize("vector", ENDORSEMENTS["vectors"], ids=lambda vector: vector["name"])
def test_endorsements(vector):
    """The digest, the signature and its signer, by an implementation of EIP-712 that is not ours."""
    encoded = unhex(vector["endorsement"])
    assert canonical(encoded)
    endorsement = cbor2.loads(encoded)
    assert list(endorsement) == ([1, 2, 4] if vector["chain_id"] else [1, 4])
    cose = cbor2.dumps(endorsement[1])
    assert cose == unhex(vector["checkpoint"])
    cwt.COSE.new().decode(cose, cose_key(CHECKPOINTS["signer"]), external_aad=CHECKPOINTS["external_aad"].encode())
    assert endorsement.get(2, [0, bytes(20)]) == [vector["chain_id"], unhex(vector["contract"])]
    assert endorsement[4] == unhex(vector["signature"])
    message = {key: unhex(value) if isinstance(value, str) else value for key, value in vector["message"].items()}
    claim = cbor2.loads(endorsement[1].value[2])
    assert (message["root"], message["timestamp"], message["inboxConsumed"]) == (claim[1], claim[2], claim[6])
    assert message["stateHash"] == claim[4][4]
    wallet_agrees(vector, CHECKPOINT_TYPE, message, ENDORSEMENTS["signer"])


def test_a_vector_has_no_field_that_is_zero():
    assert any(all(vector["message"].values()) for vector in ENDORSEMENTS["vectors"])


OUTBOUND_TYPE = {
    "Message": [
        {"name": "stream", "type": "bytes32"},
        {"name": "nonce", "type": "uint64"},
        {"name": "target", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "token", "type": "address"},
        {"name": "amount", "type": "uint256"},
        {"name": "payloadHash", "type": "bytes32"},
        {"name": "gasLimit", "type": "uint64"},
        {"name": "deadline", "type": "uint64"},
        {"name": "inboxConsumed", "type": "uint64"},
    ]
}
OUTBOUND = load("outbound.json")


@pytest.mark.parametrize("vector", OUTBOUND["vectors"], ids=lambda vector: vector["name"])
def test_outbound_messages(vector):
    """The digest, the signature and its signer, likewise."""
    types = {field["name"]: field["type"] for field in OUTBOUND_TYPE["Message"]}
    assert set(vector["message"]) == set(types)
    message = {
        name: int(text) if types[name].startswith("uint") else unhex(text) for name, text in vector["message"].items()
    }
    wallet_agrees(vector, OUTBOUND_TYPE, message, OUTBOUND["signer"])


@pytest.mark.parametrize("vector", REFUSALS["vectors"], ids=lambda vector: vector["name"])
def test_refusals(vector):
    protected, _, encoded, _ = cbor2.loads(unhex(vector["cose"])).value
    assert canonical(encoded)
    payload = cbor2.loads(encoded)
    assert cbor2.loads(protected)[LABELS["sequence"]] == vector["sequence"]
    named = ["rule", "timestamp", "incarnation", "commit", None, "detail", "rows", "further"]
    for key, name in enumerate(named, start=1):
        if name:
            assert payload.get(key) == vector[name]
    assert payload.get(9, [None])[-1] == vector["because"]


def merkle_root(leaves):
    """MTH of RFC 9162, section 2.1.1."""
    if not leaves:
        return sha256()
    if len(leaves) == 1:
        return sha256(b"\x00", leaves[0])
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01", merkle_root(leaves[:split]), merkle_root(leaves[split:]))


def merkle_path(index, leaves):
    """PATH of RFC 9162, section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return merkle_path(index, leaves[:split]) + [merkle_root(leaves[split:])]
    return merkle_path(index - split, leaves[split:]) + [merkle_root(leaves[:split])]


def consistency_path(size, leaves, known=True):
    """SUBPROOF of RFC 9162, section 2.1.4.1."""
    if size == len(leaves):
        return [] if known else [merkle_root(leaves)]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if size <= split:
        return consistency_path(size, leaves[:split], known) + [merkle_root(leaves[split:])]
    return consistency_path(size - split, leaves[split:], False) + [merkle_root(leaves[:split])]


def test_tree():
    file = load("tree.json")
    leaves = [unhex(leaf) for leaf in file["leaves"]]
    assert [merkle_root(leaves[:n]) for n in range(len(leaves) + 1)] == [unhex(r) for r in file["roots"]]
    for proof in file["inclusion"]:
        assert merkle_path(proof["index"], leaves) == [unhex(step) for step in proof["path"]]
    for proof in file["consistency"]:
        assert consistency_path(proof["from"], leaves) == [unhex(step) for step in proof["path"]]


def test_batches_add_up_to_their_checkpoints():
    file = load("batches.json")
    leaves = []
    for vector in file["vectors"]:
        encoded = unhex(vector["cbor"])
        assert zstandard.ZstdDecompressor().decompress(unhex(vector["stored"])) == encoded
        assert canonical(encoded)
        batch = cbor2.loads(encoded)
        assert list(batch) == ["c", "e", "h", "m", "s", "t", "v"]
        assert (batch["s"], batch["e"], batch["v"]) == (vector["first"], vector["last"], 2)
        assert sha256(*[cbor2.dumps(message) for message in batch["m"]]) == batch["h"]
        for cose, body in batch["m"]:
            leaves.append(cbor2.dumps(cose))
            assert sha256(body) == cose.value[2]
        checkpoint = batch["c"].value
        header, claim = cbor2.loads(checkpoint[0]), cbor2.loads(checkpoint[2])
        assert header[LABELS["sequence"]] == batch["e"] == len(leaves)
        assert claim[1] == merkle_root(leaves)
        assert claim[2] == batch["t"]


def test_equivocation():
    file = load("equivocation.json")
    first, second = (cbor2.loads(unhex(file[name])).value for name in ("first", "second"))
    place = lambda cose: [cbor2.loads(cose[0])[LABELS[name]] for name in ("stream", "epoch", "sequence")]
    assert place(first) == place(second)
    assert first[2] != second[2]
    for name in ("first", "second"):
        cose, aad = unhex(file[name]), b"synddb/message/v1"
        cwt.COSE.new().decode(cose, cose_key(MESSAGES["signer"]), external_aad=aad)
        assert cbor2.loads(cose).value[1] == {4: unhex(file["key"])}


REFUSED = [vector for vector in load("refused.json")["vectors"] if vector["as"] in ("message", "checkpoint")]
FORM_ONLY = {"another tag", "a head longer than needed", "a byte after it", "another root than its frontier's"}


@pytest.mark.parametrize("vector", REFUSED, ids=lambda vector: vector["name"])
def test_cose_library_refuses_what_must_be_refused(vector):
    """What a signature shows. The form alone (canonical, nothing after it) is for a strict decoder."""
    if vector["name"] in FORM_ONLY:
        encoded = unhex(vector["bytes"])
        try:
            value = cbor2.loads(encoded)
        except cbor2.CBORDecodeError:
            return
        if not (isinstance(value, cbor2.CBORTag) and value.tag == 18 and canonical(encoded)):
            return
    if vector["name"] == "s in the upper half of the order":
        signature = cbor2.loads(unhex(vector["bytes"])).value[3]
        assert int.from_bytes(signature[32:], "big") > 2**255 - 1, "a COSE library need not know this rule"
        return
    file = MESSAGES if vector["as"] == "message" else CHECKPOINTS
    with pytest.raises((cwt.VerifyError, cwt.DecodeError, ValueError)):
        cwt.COSE.new().decode(
            unhex(vector["bytes"]), cose_key(file["signer"]), external_aad=file["external_aad"].encode()
        )


def row_element(row):
    """The 2048 bytes of one row (spec/wire.md, "State hash")."""
    encoded = b"synddb/row/v1"
    rowid = row["rowid"]
    encoded += b"\x00" if rowid is None else b"\x01" + struct.pack("<q", int(rowid))
    for column in row["columns"]:
        [(storage_class, value)] = column.items()
        if storage_class == "null":
            encoded += b"\x00"
        elif storage_class == "integer":
            encoded += b"\x01" + struct.pack("<q", int(value))
        elif storage_class == "real_bits":
            encoded += b"\x02" + unhex(value)[::-1]
        else:
            code = {"text": b"\x03", "blob": b"\x04"}[storage_class]
            encoded += code + struct.pack("<Q", len(unhex(value))) + unhex(value)
    return blake3.blake3(encoded).digest(length=2048)


def table_digest(rows):
    lanes = [0] * 1024
    for row in rows:
        for lane, value in enumerate(struct.unpack("<1024H", row_element(row))):
            lanes[lane] = (lanes[lane] + value) % 65536
    return blake3.blake3(struct.pack("<1024H", *lanes)).digest()


def test_state_hash():
    file = load("state.json")
    for row in file["rows"]:
        assert table_digest([row]) == unhex(row["digest"]), row["name"]
    assert len({row["digest"] for row in file["rows"]}) == len(file["rows"])
    assert table_digest([]) == unhex(file["empty_table"])
    assert table_digest(file["rows"]) == unhex(file["table_of_all_rows"])
    state = file["state"]
    encoded = cbor2.dumps([
        "synddb/state/v1",
        [cbor2.loads(row) for row in sorted(unhex(row) for row in state["schema"])],
        state["encoding"],
        state["user_version"],
        state["application_id"],
        [[unhex(table["name"]), unhex(table["digest"])] for table in state["tables"]],
    ])
    assert sha256(encoded) == unhex(state["hash"])


UPGRADE = load("upgrade.json")


@pytest.mark.parametrize("log", UPGRADE["logs"], ids=lambda log: log["name"])
def test_readers_stop_at_the_first_epoch_that_is_newer(log):
    aad = {"message": MESSAGES["external_aad"].encode(), "checkpoint": CHECKPOINTS["external_aad"].encode()}
    signers = {unhex(signer["address"]): signer for signer in UPGRADE["signers"]}
    leaves, found = [], []
    for vector in log["batches"]:
        batch = cbor2.loads(zstandard.ZstdDecompressor().decompress(unhex(vector["stored"])))
        assert (batch["s"], batch["e"]) == (vector["first"], vector["last"])
        assert batch["s"] == len(leaves) + 1
        for cose, body in batch["m"]:
            encoded = cbor2.dumps(cose)
            cwt.COSE.new().decode(encoded, cose_key(signers[cose.value[1][4]]), external_aad=aad["message"])
            leaves.append(encoded)
            assert sha256(body) == cose.value[2]
            if cbor2.loads(cose.value[0])[LABELS["type"]] == 5:
                content = cbor2.loads(zstandard.ZstdDecompressor().decompress(body))
                found.append((len(leaves), content[2], content[1], cose.value[1][4]))
        checkpoint = batch["c"]
        signer = signers[checkpoint.value[1][4]]
        cwt.COSE.new().decode(cbor2.dumps(checkpoint), cose_key(signer), external_aad=aad["checkpoint"])
        claim = cbor2.loads(checkpoint.value[2])
        assert claim[1] == merkle_root(leaves)
        assert claim[9] == found[-1][1], "a checkpoint names the versions of the last epoch"
    assert len(leaves) == log["end"]["size"]
    assert claim[4][4] == unhex(log["end"]["state"])
    assert len(found) == len(log["epochs"])
    for (sequence, versions, record, key), epoch in zip(found, log["epochs"]):
        assert (sequence, versions) == (epoch["sequence"], epoch["versions"])
        assert record == sha256(unhex(epoch["record"]))
        assert cbor2.loads(unhex(epoch["record"])).value[1][4] == key
    for reader in log["readers"]:
        protocol, apply = reader["supports"]
        newer = [(sequence, versions) for sequence, versions, _, _ in found if versions[0] > protocol or versions[1] > apply]
        expected = newer[0] if newer else (None, None)
        assert (reader["stops_at"], reader["found"]) == expected


TRACES = load("traces.json")


def test_traces_are_computed_by_everybody():
    stream, body = unhex(TRACES["stream"]), unhex(TRACES["body_hash"])
    trace = sha256(b"synddb trace 1\0", stream, body)[:16]
    assert trace.hex() == TRACES["trace"]
    place = struct.pack(">QQ", TRACES["epoch"], TRACES["sequence"])
    above = None
    for stage in TRACES["spans"]:
        name = stage["stage"]
        of_agent = name in ("capture", "ship")
        reader = unhex(TRACES["reader"]) if name == "apply" else b""
        at = bytes(16) if of_agent else place
        span = sha256(b"synddb span 1\0", trace, at, name.encode(), b"\0", reader)[:8].hex()
        assert (stage["span"], stage["parent"]) == (span, above)
        above = span
    assert TRACES["traceparent"] == f"00-{trace.hex()}-{TRACES['spans'][1]['span']}-01"
    share, random = TRACES["sampled_from_per_million"], int.from_bytes(trace[-7:], "big")
    takes = lambda share: random * 1_000_000 >= (1_000_000 - share) << 56
    assert takes(share) and not takes(share - 1)
