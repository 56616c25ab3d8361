// Holds random digests and signatures, as the protocol in Rust makes them, against those of viem:
//
//     node tools/digests.mjs FOLDER
//
// FOLDER is what `cargo run -p synddb-protocol --example digests -- SEED COUNT FOLDER` wrote. The types are written down here anew, from the
// signing specification. Exits with 1 when something differs, or when there was too little to compare.

import {readFileSync} from "node:fs";
import {join} from "node:path";
import {hashTypedData, recoverTypedDataAddress, verifyTypedData} from "viem";

const COMPARED_MIN = 1000;

const OUTBOUND = [
    ["stream", "bytes32"],
    ["nonce", "uint64"],
    ["target", "address"],
    ["value", "uint256"],
    ["token", "address"],
    ["amount", "uint256"],
    ["payloadHash", "bytes32"],
    ["gasLimit", "uint64"],
    ["deadline", "uint64"],
    ["inboxConsumed", "uint64"],
];
const CHECKPOINT = [
    ["stream", "bytes32"],
    ["epoch", "uint64"],
    ["sequence", "uint64"],
    ["timestamp", "uint64"],
    ["root", "bytes32"],
    ["stateHash", "bytes32"],
    ["inboxConsumed", "uint64"],
];

/** What a line says as a wallet is asked to sign it. */
function typedData(line, primaryType, fields) {
    const value = (name, type) => (type.startsWith("uint") ? BigInt(line.message[name]) : line.message[name]);
    return {
        domain: {name: "SyndDB", version: "1", chainId: BigInt(line.chain_id), verifyingContract: line.contract},
        types: {[primaryType]: fields.map(([name, type]) => ({name, type}))},
        primaryType,
        message: Object.fromEntries(fields.map(([name, type]) => [name, value(name, type)])),
    };
}

/** How many lines of a file there are, and what differs in them. */
async function compare(folder, file, primaryType, fields) {
    const [head, ...lines] = readFileSync(join(folder, file), "utf8").trimEnd().split("\n").map((line) => JSON.parse(line));
    const problems = [];
    if (head.lines !== String(lines.length)) problems.push(`${file} has ${lines.length} lines where its first says ${head.lines}`);
    if (lines.length < COMPARED_MIN) problems.push(`${file} has fewer than ${COMPARED_MIN} lines`);
    for (const [index, line] of lines.entries()) {
        const data = typedData(line, primaryType, fields);
        const {signature} = line;
        const digest = hashTypedData(data);
        const signer = (await recoverTypedDataAddress({...data, signature})).toLowerCase();
        const at = `${file}:${index + 2}`;
        if (digest !== line.digest) problems.push(`${at}: digest ${digest} is not ${line.digest}`);
        if (signer !== line.signer) problems.push(`${at}: signer ${signer} is not ${line.signer}`);
        if (!(await verifyTypedData({...data, signature, address: line.signer}))) problems.push(`${at}: the signature does not verify`);
    }
    console.log(`${primaryType}: ${lines.length} digests and signatures compared with viem's, seed ${head.seed}`);
    return problems;
}

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("usage: digests.mjs FOLDER");
const problems = [
    ...(await compare(folder, "messages.jsonl", "Message", OUTBOUND)),
    ...(await compare(folder, "checkpoints.jsonl", "Checkpoint", CHECKPOINT)),
];
for (const problem of problems.slice(0, 10)) console.log(problem);
if (problems.length > 0) {
    console.log(`${problems.length} differences`);
    process.exit(1);
}
