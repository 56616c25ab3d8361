// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Message} from "../types/Message.sol";
import {State, Verdict} from "../types/State.sol";

/// @title The bridge of one stream
/// @notice Executes what a sequencer and a quorum of validators signed, at most once; holds native currency and ERC-20 tokens; and takes
/// deposits and messages for the application.
///
/// Outbound: a message is *authorised* when a live sequencer and a quorum of live validators signed its digest. An authorised message ends
/// as Completed, Rejected or Expired; or it is Failed, and anyone may retry it until its deadline, with signatures anew once a key that may have
/// signed it was taken away. A retry may end in any of these. The value of a message that was not completed was never taken from custody.
///
/// Inbound: `deposit`, `depositNative` and `sendMessage` emit `InboundMessageSent` with a dense nonce. Deliver it at finality only.
///
/// Tokens: a token may take a fee or return nothing; what is credited and debited is the measured difference. A token that grows gives its
/// growth to nobody; one that shrinks makes withdrawals fail when custody is no longer covered.
///
/// Native currency and its wrapped form are one asset in custody: either may be deposited, and a message moves whichever it names.
interface IBridge {
    // --- events

    /// A message was brought with the sequencer's signature.
    event MessageInitialized(uint64 indexed nonce, bytes32 indexed digest, address indexed sequencer);
    /// A module told a message to wait.
    event MessageDelayed(uint64 indexed nonce, address indexed module);
    /// A message was executed.
    event MessageCompleted(uint64 indexed nonce, bytes32 indexed digest);
    /// A message was undone; the reason is cut off at `REASON_MAX`.
    event MessageFailed(uint64 indexed nonce, bytes32 indexed digest, bytes reason);
    /// A message was refused: by a module; or, where the module is zero, by the deny list, or because no transaction could pay for its gas or
    /// carry its call data.
    event MessageRejected(uint64 indexed nonce, bytes32 indexed digest, address indexed module);
    /// A message was brought after its deadline.
    event MessageExpired(uint64 indexed nonce, bytes32 indexed digest);
    /// Native currency that the call left over, or sent back, is in custody again.
    event NativeReturned(uint64 indexed nonce, uint256 amount);
    /// The canonical event of everything inbound. Nonces are dense from 1. Native currency has the wrapped token; a message without
    /// value has token zero.
    event InboundMessageSent(uint64 indexed nonce, address indexed sender, address indexed token, uint256 amount, bytes data);
    /// The guardian paused outbound messages until then.
    event OutboundPaused(uint64 until);
    /// The owner ended the pause.
    event OutboundUnpaused();
    /// The owner stopped or resumed deposits and inbound messages.
    event DepositsPaused(bool isPaused);
    /// The owner stopped or resumed messages that move value.
    event ExitsPaused(bool isPaused);
    /// The owner named a guardian.
    event GuardianSet(address indexed guardian);
    /// The owner had deposits of a token taken, or taken no more.
    event TokenAdmitted(address indexed token, bool isAdmitted);
    /// The owner denied or allowed a target.
    event TargetDenied(address indexed target, bool isDenied);

    // --- errors

    /// The message is of another stream.
    error StreamUnknown(bytes32 stream);
    /// The payload is not the one that was signed.
    error PayloadMismatch(bytes32 given, bytes32 signed);
    /// The state of the message does not allow this.
    error StateUnfit(uint64 nonce, State state);
    /// The message is not the one that was brought under this nonce.
    error DigestMismatch(bytes32 given, bytes32 known);
    /// The transaction has too little gas left for what the message promises.
    error GasTooLow(uint256 left, uint256 needed);
    /// The message claims to have consumed more inbound messages than were sent.
    error InboxNotReached(uint64 claimed, uint64 sent);
    /// A batch of none, or of more than `BATCH_MAX`, or of lists that differ in length.
    error BatchMalformed(uint256 messages);
    /// Outbound messages are paused.
    error OutboundIsPaused(uint64 until);
    /// Messages that move value are paused.
    error ExitsArePaused();
    /// Deposits and inbound messages are paused.
    error DepositsArePaused();
    /// The pause is longer than allowed, or comes too soon after the last one.
    error PauseNotAllowed(uint64 duration, uint64 notBefore);
    /// Only the guardian pauses.
    error NotGuardian(address caller);
    /// Only the bridge itself calls this.
    error NotSelf(address caller);
    /// Native currency comes by `depositNative` only.
    error NativeNotAccepted(address sender);
    /// Custody holds less than the message moves.
    error CustodyTooLow(address token, uint256 held, uint256 asked);
    /// More would be in custody than the books can hold.
    error CustodyTooHigh(address token, uint256 held, uint256 received);
    /// The token refused the transfer.
    error TransferFailed(address token, address to, uint256 amount);
    /// More left the bridge than the message moves.
    error TransferTookMore(address token, uint256 took, uint256 asked);
    /// A module refused what the call did.
    error PostCheckFailed(address module, Verdict verdict);
    /// Nothing arrived.
    error NothingReceived(address token);
    /// More data than an inbound message holds.
    error DataTooLong(uint256 given, uint256 max);
    /// There is no contract at the address.
    error NoCode(address account);
    /// Deposits of the token are not taken.
    error TokenNotAdmitted(address token);
    /// A key or an image was taken away since the message was authorised: bring it with signatures, by `initializeAndHandleMessage`.
    error AuthorizationStale(uint64 nonce);

    // --- outbound

    /// @notice Brings a message with the sequencer's signature: NotStarted -> PreExecution. Gives it no claim to the nonce: only a quorum does.
    function initializeMessage(Message calldata message, bytes calldata sequencerSignature) external;

    /// @notice Executes a message that was brought before, in one transaction: modules, call, modules. Anyone may.
    /// @param message What was signed.
    /// @param payload The call data.
    /// @param validatorSignatures As `ITeeKeyManager.requireQuorum` takes them.
    /// @return state Where the message is now. Failed, Rejected, Expired and waiting ones do not revert.
    function handleMessage(Message calldata message, bytes calldata payload, bytes calldata validatorSignatures)
        external
        returns (State state);

    /// @notice Both at once. Also for a Failed message, which it authorises anew.
    function initializeAndHandleMessage(
        Message calldata message,
        bytes calldata payload,
        bytes calldata sequencerSignature,
        bytes calldata validatorSignatures
    ) external returns (State state);

    /// @notice Tries a Failed message again. Anyone may: it was authorised. Not once a key or an image was taken away since.
    function retryMessage(Message calldata message, bytes calldata payload) external returns (State state);

    // Batches: one that reverts reverts all. What somebody else did before is left as it is, so nobody undoes a batch by being first; its state is
    // returned as NotStarted, which says that this call did nothing about it. Only who made the nonce's message end knows which message it was.

    /// @notice Brings up to `BATCH_MAX` messages, those that nobody brought before.
    function initializeMessages(Message[] calldata messages, bytes[] calldata sequencerSignatures) external;

    /// @notice Executes up to `BATCH_MAX` messages, in order; not those that have ended or failed before.
    function handleMessages(Message[] calldata messages, bytes[] calldata payloads, bytes[] calldata validatorSignatures)
        external
        returns (State[] memory states);

    /// @notice Both at once; not those that have ended before.
    function initializeAndHandleMessages(
        Message[] calldata messages,
        bytes[] calldata payloads,
        bytes[] calldata sequencerSignatures,
        bytes[] calldata validatorSignatures
    ) external returns (State[] memory states);

    // --- inbound

    /// @notice Takes tokens into custody and credits what arrived.
    /// @param token An ERC-20 token that the owner admitted.
    /// @param amount What is asked of the caller.
    /// @param data For the application.
    /// @return nonce Of the inbound message.
    function deposit(address token, uint256 amount, bytes calldata data) external returns (uint64 nonce);

    /// @notice Takes native currency into custody, where it is one with its wrapped form.
    function depositNative(bytes calldata data) external payable returns (uint64 nonce);

    /// @notice Sends the application a message without value.
    function sendMessage(bytes calldata data) external returns (uint64 nonce);

    // --- privileged

    /// @notice Stops all outbound messages for at most `PAUSE_MAX` seconds. The guardian's. After a pause has ended, outbound
    /// messages run for at least as long as it was, and for `PAUSE_GAP_MIN`, before the next one may begin; after one that the owner ended, for
    /// `PAUSE_MAX`.
    function pauseOutbound(uint64 duration) external;

    /// @notice Ends a pause. The owner's.
    function unpauseOutbound() external;

    /// @notice Stops or resumes deposits and inbound messages. The owner's.
    function setDepositsPaused(bool isPaused) external;

    /// @notice Stops or resumes messages that move value. The owner's.
    function setExitsPaused(bool isPaused) external;

    /// @notice Names the guardian. The owner's.
    function setGuardian(address guardian_) external;

    /// @notice Has deposits of a token taken, or taken no more. The owner's. A token that was ever taken is denied as a target, because there may be some
    /// of it in custody.
    function setTokenAdmitted(address token, bool isAdmitted) external;

    /// @notice Denies or allows a target. The owner's. Cannot allow what is denied always: the bridge, its parts, the key manager, and verifiers and tokens that were ever admitted.
    function setTargetDenied(address target, bool isDenied) external;

    // --- views

    /// @notice The state of a message.
    function messageState(uint64 nonce) external view returns (State);

    /// @notice What is signed.
    function messageDigest(Message calldata message) external view returns (bytes32);

    /// @notice What messages may still move of a token. Native currency and the wrapped token are one, under the latter.
    function custodyOf(address token) external view returns (uint256);

    /// @notice How many inbound messages were sent; the last one's nonce.
    function inboundCount() external view returns (uint64);

    /// @notice Whether messages to a target are rejected.
    function isTargetDenied(address target) external view returns (bool);

    /// @notice The stream that the bridge serves.
    function stream() external view returns (bytes32);

    /// @notice Whether deposits of a token are taken.
    function isTokenAdmitted(address token) external view returns (bool);

    /// @notice Who may pause outbound messages.
    function guardian() external view returns (address);

    /// @notice The contract that makes the calls: what targets see as `msg.sender`.
    function executor() external view returns (address);

    /// @notice The wrapped native currency.
    function wrappedNative() external view returns (address);
}
