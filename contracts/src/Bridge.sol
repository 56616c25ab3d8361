// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {LibCall} from "solady/utils/LibCall.sol";
import {Executor} from "./Executor.sol";
import {ModuleCheckRegistry} from "./ModuleCheckRegistry.sol";
import {IBridge} from "./interfaces/IBridge.sol";
import {IExecutor} from "./interfaces/IExecutor.sol";
import {IModuleCheckRegistry} from "./interfaces/IModuleCheckRegistry.sol";
import {ITeeKeyManager} from "./interfaces/ITeeKeyManager.sol";
import {IWETH} from "./interfaces/IWETH.sol";
import {MessageHash} from "./libraries/MessageHash.sol";
import {BridgeSettings} from "./types/BridgeSettings.sol";
import {Message} from "./types/Message.sol";
import {Phase, State, Verdict} from "./types/State.sol";
import {KeyState, Role} from "./types/Key.sol";

/// @title The bridge of one stream
/// @dev Documentation is in the interface.
///
/// A message is executed in a **frame**: the bridge calls itself (`performMessage`) with a stated amount of gas. What fails in there is undone
/// as a whole, tokens and modules included, and the message becomes Failed. What happens in the frame does not depend on the gas of the
/// transaction: either there is enough for all that the frame may use, or the transaction reverts.
contract Bridge is IBridge, Ownable2Step, EIP712, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// The most gas that a message may promise its target.
    uint64 public constant GAS_LIMIT_MAX = 10_000_000;
    /// Gas of a frame beyond what the target gets: transfers, unwrapping, modules after the call.
    uint256 public constant FRAME_GAS = 500_000;
    /// Gas to record how a frame ended.
    uint256 public constant RECORD_GAS = 80_000;
    /// How many messages a batch has, at most.
    uint256 public constant BATCH_MAX = 32;
    /// How long a pause lasts, at most, in seconds; and how long there is none after one that the owner ended.
    uint64 public constant PAUSE_MAX = 7 days;
    /// How long there is none after a pause, at least, in seconds; after a longer one, as long as it was.
    uint64 public constant PAUSE_GAP_MIN = 1 days;
    /// How much of the reason of a failure is told, in bytes.
    uint16 public constant REASON_MAX = 512;
    /// The longest call data of a message, in bytes.
    uint256 public constant PAYLOAD_MAX = 65_536;
    /// The longest data of an inbound message, in bytes. The whole event must fit the 64 KiB of the log's inbound message.
    uint256 public constant DATA_MAX = 32_768;

    /// @inheritdoc IBridge
    bytes32 public immutable stream;
    /// @inheritdoc IBridge
    address public immutable executor;
    /// @inheritdoc IBridge
    address public immutable wrappedNative;
    /// Whose sequencer and quorum count.
    ITeeKeyManager public immutable KEY_MANAGER;
    /// The modules.
    IModuleCheckRegistry public immutable MODULES;

    /// A message that waits or failed: what it is, and which sequencer signed it. Of others nobody needs it.
    struct Known {
        bytes32 digest;
        address sequencer;
        /// Of one that failed: `ITeeKeyManager.endings` when it was authorised.
        uint32 endings;
    }

    /// What messages may move of a token, and whether an account may be their target.
    struct Account {
        uint232 held;
        /// It is a token that was ever admitted, so some may be in custody.
        bool wasAdmitted;
        /// Deposits of it are taken.
        bool isAdmitted;
        /// The owner denies it.
        bool isDenied;
    }

    /// What every message reads, in one slot.
    struct Switches {
        uint64 outboundPausedUntil;
        uint64 nextPauseNotBefore;
        uint64 inboundCount;
        bool depositsPaused;
        bool exitsPaused;
    }

    /// The bridge serves one stream, so the nonce is the whole replay key. Each word holds the states of 64 nonces, 4 bits each.
    mapping(uint64 word => uint256) private _states;
    mapping(uint64 nonce => Known) private _known;
    mapping(address account => Account) private _accounts;
    Switches private _switches;
    /// @inheritdoc IBridge
    address public guardian;

    constructor(BridgeSettings memory settings) Ownable(settings.owner) EIP712("SyndDB", "1") {
        KEY_MANAGER = settings.keyManager;
        stream = settings.keyManager.stream();
        wrappedNative = settings.wrappedNative;
        // In this order: who predicts their addresses counts what the bridge creates.
        executor = address(new Executor(address(this)));
        MODULES = new ModuleCheckRegistry(address(this), settings.owner, settings.installer);
        guardian = settings.guardian;
        emit GuardianSet(settings.guardian);
        _setTokenAdmitted(settings.wrappedNative, true);
        for (uint256 i = 0; i < settings.tokens.length; i++) {
            _setTokenAdmitted(settings.tokens[i], true);
        }
        for (uint256 i = 0; i < settings.denied.length; i++) {
            _accounts[settings.denied[i]].isDenied = true;
            emit TargetDenied(settings.denied[i], true);
        }
    }

    /// Native currency comes from unwrapping, or from the executor after a call.
    receive() external payable {
        if (msg.sender != wrappedNative && msg.sender != executor) revert NativeNotAccepted(msg.sender);
    }

    // --- outbound

    /// @inheritdoc IBridge
    function initializeMessage(Message calldata message, bytes calldata sequencerSignature) external nonReentrant {
        _initialize(message, sequencerSignature);
    }

    /// @inheritdoc IBridge
    function handleMessage(Message calldata message, bytes calldata payload, bytes calldata validatorSignatures)
        external
        nonReentrant
        returns (State)
    {
        return _handle(message, payload, validatorSignatures);
    }

    /// @inheritdoc IBridge
    function initializeAndHandleMessage(
        Message calldata message,
        bytes calldata payload,
        bytes calldata sequencerSignature,
        bytes calldata validatorSignatures
    ) external nonReentrant returns (State) {
        return _initializeAndHandle(message, payload, sequencerSignature, validatorSignatures);
    }

    /// @inheritdoc IBridge
    function retryMessage(Message calldata message, bytes calldata payload) external nonReentrant returns (State) {
        // checks
        bytes32 digest = _checkMessage(message, payload);
        State state = messageState(message.nonce);
        if (state != State.Failed) revert StateUnfit(message.nonce, state);
        _requireSame(message.nonce, digest);
        Known memory known = _known[message.nonce];
        KeyState sequencer = KEY_MANAGER.keyOf(known.sequencer).state;
        bool isStale = sequencer == KeyState.Revoked || sequencer == KeyState.Frozen || known.endings != KEY_MANAGER.endings();
        // What a key signed that was taken away since needs signatures of those that are left. To note that its time is over needs nobody.
        if (isStale && block.timestamp <= message.deadline) revert AuthorizationStale(message.nonce);

        return _settle(message, payload, digest, State.Failed, known.sequencer);
    }

    /// @inheritdoc IBridge
    function initializeMessages(Message[] calldata messages, bytes[] calldata sequencerSignatures) external nonReentrant {
        _requireBatch(messages.length, sequencerSignatures.length);
        for (uint256 i = 0; i < messages.length; i++) {
            if (messageState(messages[i].nonce) == State.NotStarted) _initialize(messages[i], sequencerSignatures[i]);
        }
    }

    /// @inheritdoc IBridge
    function handleMessages(Message[] calldata messages, bytes[] calldata payloads, bytes[] calldata validatorSignatures)
        external
        nonReentrant
        returns (State[] memory states)
    {
        _requireBatch(messages.length, payloads.length);
        _requireBatch(messages.length, validatorSignatures.length);
        states = new State[](messages.length);
        for (uint256 i = 0; i < messages.length; i++) {
            State state = messageState(messages[i].nonce);
            if (state == State.Failed || _isFinal(state)) continue;
            states[i] = _handle(messages[i], payloads[i], validatorSignatures[i]);
        }
    }

    /// @inheritdoc IBridge
    function initializeAndHandleMessages(
        Message[] calldata messages,
        bytes[] calldata payloads,
        bytes[] calldata sequencerSignatures,
        bytes[] calldata validatorSignatures
    ) external nonReentrant returns (State[] memory states) {
        _requireBatch(messages.length, payloads.length);
        _requireBatch(messages.length, sequencerSignatures.length);
        _requireBatch(messages.length, validatorSignatures.length);
        states = new State[](messages.length);
        for (uint256 i = 0; i < messages.length; i++) {
            if (_isFinal(messageState(messages[i].nonce))) continue;
            states[i] = _initializeAndHandle(messages[i], payloads[i], sequencerSignatures[i], validatorSignatures[i]);
        }
    }

    /// @notice The frame. The bridge's own.
    /// @dev No lock of its own: the caller holds it.
    function performMessage(Message calldata message, bytes calldata payload) external {
        if (msg.sender != address(this)) revert NotSelf(msg.sender);
        if (message.amount != 0) _sendToken(message.token, message.target, message.amount);
        if (message.value != 0) _takeNative(message.value);
        uint256 kept = address(this).balance - message.value;
        IExecutor(executor).execute{value: message.value}(message.target, payload, message.gasLimit);
        // Nobody else can take native currency out or bring it in while the lock holds, so what is more than before came back.
        _creditReturned(message.nonce, address(this).balance - kept);
        _setState(message.nonce, State.PostExecution);
        (Verdict verdict, address module) = MODULES.checkMessage(message, Phase.Post);
        if (verdict != Verdict.Pass) revert PostCheckFailed(module, verdict);
    }

    // --- inbound

    /// @inheritdoc IBridge
    function deposit(address token, uint256 amount, bytes calldata data) external nonReentrant returns (uint64) {
        // checks
        _requireDeposits(token, data);

        // interactions, before the effects: what is credited is what arrived, and the lock holds
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = IERC20(token).balanceOf(address(this)) - before;
        if (received == 0) revert NothingReceived(token);

        // effects
        _credit(token, received);
        return _announce(token, received, data);
    }

    /// @inheritdoc IBridge
    function depositNative(bytes calldata data) external payable nonReentrant returns (uint64) {
        // checks
        _requireDeposits(wrappedNative, data);
        if (msg.value == 0) revert NothingReceived(wrappedNative);

        // effects
        _credit(wrappedNative, msg.value);
        return _announce(wrappedNative, msg.value, data);
    }

    /// @inheritdoc IBridge
    function sendMessage(bytes calldata data) external nonReentrant returns (uint64) {
        _requireInbound(data);
        return _announce(address(0), 0, data);
    }

    // --- privileged

    /// @inheritdoc IBridge
    function pauseOutbound(uint64 duration) external {
        // checks
        if (msg.sender != guardian) revert NotGuardian(msg.sender);
        uint64 notBefore = _switches.nextPauseNotBefore;
        if (duration == 0 || duration > PAUSE_MAX || block.timestamp < notBefore) revert PauseNotAllowed(duration, notBefore);

        // effects
        uint64 until = uint64(block.timestamp) + duration;
        _switches.outboundPausedUntil = until;
        _switches.nextPauseNotBefore = until + (duration > PAUSE_GAP_MIN ? duration : PAUSE_GAP_MIN);
        emit OutboundPaused(until);
    }

    /// @inheritdoc IBridge
    function unpauseOutbound() external onlyOwner {
        if (block.timestamp < _switches.outboundPausedUntil) {
            _switches.outboundPausedUntil = uint64(block.timestamp);
            _switches.nextPauseNotBefore = uint64(block.timestamp) + PAUSE_MAX;
        }
        emit OutboundUnpaused();
    }

    /// @inheritdoc IBridge
    function setDepositsPaused(bool isPaused) external onlyOwner {
        _switches.depositsPaused = isPaused;
        emit DepositsPaused(isPaused);
    }

    /// @inheritdoc IBridge
    function setExitsPaused(bool isPaused) external onlyOwner {
        _switches.exitsPaused = isPaused;
        emit ExitsPaused(isPaused);
    }

    /// @inheritdoc IBridge
    function setGuardian(address guardian_) external onlyOwner {
        guardian = guardian_;
        emit GuardianSet(guardian_);
    }

    /// @inheritdoc IBridge
    function setTargetDenied(address target, bool isDenied) external onlyOwner {
        _accounts[target].isDenied = isDenied;
        emit TargetDenied(target, isDenied);
    }

    /// @inheritdoc IBridge
    function setTokenAdmitted(address token, bool isAdmitted) external onlyOwner {
        _setTokenAdmitted(token, isAdmitted);
    }

    // --- views

    /// @inheritdoc IBridge
    function messageState(uint64 nonce) public view returns (State) {
        return State((_states[nonce / 64] >> (nonce % 64 * 4)) & 0xf);
    }

    /// @inheritdoc IBridge
    function messageDigest(Message calldata message) public view returns (bytes32) {
        return _hashTypedDataV4(MessageHash.structHash(message));
    }

    /// @inheritdoc IBridge
    function custodyOf(address token) external view returns (uint256) {
        return _accounts[token].held;
    }

    /// @inheritdoc IBridge
    function isTargetDenied(address target) public view returns (bool) {
        if (target == address(this) || target == executor || target == address(MODULES) || target == address(KEY_MANAGER)) return true;
        Account memory account = _accounts[target];
        if (account.wasAdmitted || account.isDenied) return true;
        // A verifier has code; so whoever withdraws to an account without any does not pay for the question.
        if (target.code.length == 0) return false;
        (, bool wasVerifier) = KEY_MANAGER.verifierOf(target);
        return wasVerifier;
    }

    /// @inheritdoc IBridge
    function isTokenAdmitted(address token) external view returns (bool) {
        return _accounts[token].isAdmitted;
    }

    /// @inheritdoc IBridge
    function inboundCount() external view returns (uint64) {
        return _switches.inboundCount;
    }

    /// @notice Until when outbound messages are paused, when the next pause may begin, and what else is stopped.
    function switches() external view returns (Switches memory) {
        return _switches;
    }

    // --- the way of a message

    function _initialize(Message calldata message, bytes calldata sequencerSignature) private {
        // checks
        _requireOutbound(message);
        bytes32 digest = messageDigest(message);
        State state = messageState(message.nonce);
        if (state != State.NotStarted) revert StateUnfit(message.nonce, state);
        address sequencer = KEY_MANAGER.requireSequencer(digest, sequencerSignature);

        // effects
        _setState(message.nonce, State.PreExecution);
        _known[message.nonce] = Known(digest, sequencer, 0);
        emit MessageInitialized(message.nonce, digest, sequencer);
    }

    function _handle(Message calldata message, bytes calldata payload, bytes calldata validatorSignatures) private returns (State) {
        bytes32 digest = _checkMessage(message, payload);
        State state = messageState(message.nonce);
        if (state != State.PreExecution) revert StateUnfit(message.nonce, state);
        _requireSame(message.nonce, digest);
        // The sequencer's key may have ended since.
        address sequencer = _known[message.nonce].sequencer;
        KEY_MANAGER.requireLive(sequencer, Role.Sequencer);
        KEY_MANAGER.requireQuorum(digest, validatorSignatures);

        return _settle(message, payload, digest, state, sequencer);
    }

    function _initializeAndHandle(
        Message calldata message,
        bytes calldata payload,
        bytes calldata sequencerSignature,
        bytes calldata validatorSignatures
    ) private returns (State) {
        bytes32 digest = _checkMessage(message, payload);
        State state = messageState(message.nonce);
        // Whoever brought another message under this nonce has no claim to it, unless it was authorised.
        if (state == State.Failed) _requireSame(message.nonce, digest);
        else if (state != State.NotStarted && state != State.PreExecution) revert StateUnfit(message.nonce, state);
        address sequencer = KEY_MANAGER.requireAuthorized(digest, sequencerSignature, validatorSignatures);
        if (state == State.Failed) _known[message.nonce] = Known(digest, sequencer, KEY_MANAGER.endings());

        return _settle(message, payload, digest, state, sequencer);
    }

    /// What must hold of every message that is to be executed, apart from who signed it.
    function _checkMessage(Message calldata message, bytes calldata payload) private view returns (bytes32 digest) {
        _requireOutbound(message);
        bytes32 payloadHash = keccak256(payload);
        if (payloadHash != message.payloadHash) revert PayloadMismatch(payloadHash, message.payloadHash);
        digest = messageDigest(message);
    }

    /// From here on the message is authorised.
    function _settle(Message calldata message, bytes calldata payload, bytes32 digest, State state, address sequencer)
        private
        returns (State)
    {
        uint64 nonce = message.nonce;
        if (block.timestamp > message.deadline) {
            _setState(nonce, State.Expired);
            emit MessageExpired(nonce, digest);
            return State.Expired;
        }
        // What can never run ends here, or its value would belong to nobody.
        bool isTooLarge = message.gasLimit > GAS_LIMIT_MAX || payload.length > PAYLOAD_MAX;
        if (isTooLarge || isTargetDenied(message.target)) return _reject(nonce, digest, address(0));
        uint64 sent = _switches.inboundCount;
        if (message.inboxConsumed > sent) revert InboxNotReached(message.inboxConsumed, sent);
        (Verdict verdict, address module) = MODULES.checkMessage(message, Phase.Pre);
        if (verdict == Verdict.Reject) return _reject(nonce, digest, module);
        if (verdict != Verdict.Pass) {
            // A message that failed before stays so; another one waits under what it was brought with.
            if (state != State.Failed) {
                state = State.PreExecution;
                _setState(nonce, state);
                _known[nonce] = Known(digest, sequencer, 0);
            }
            emit MessageDelayed(nonce, module);
            return state;
        }
        return _execute(message, payload, digest, sequencer);
    }

    function _reject(uint64 nonce, bytes32 digest, address module) private returns (State) {
        _setState(nonce, State.Rejected);
        emit MessageRejected(nonce, digest, module);
        return State.Rejected;
    }

    function _execute(Message calldata message, bytes calldata payload, bytes32 digest, address sequencer) private returns (State) {
        // Encoded first: the memory that it takes must be paid before gas is compared.
        bytes memory call = abi.encodeCall(this.performMessage, (message, payload));
        // checks: the frame must get what it may use, whatever the transaction has
        uint256 frame = uint256(message.gasLimit) + uint256(message.gasLimit) / 30 + FRAME_GAS;
        uint256 needed = frame + frame / 63 + RECORD_GAS;
        if (gasleft() < needed) revert GasTooLow(gasleft(), needed);

        // effects: the replay key, before anything is called
        _setState(message.nonce, State.Executing);

        // interactions
        (bool isDone,, bytes memory reason) = LibCall.tryCall(address(this), 0, frame, REASON_MAX, call);

        // effects: how it ended; the lock holds since before
        if (isDone) {
            _setState(message.nonce, State.Completed);
            emit MessageCompleted(message.nonce, digest);
            return State.Completed;
        }
        _setState(message.nonce, State.Failed);
        _known[message.nonce] = Known(digest, sequencer, KEY_MANAGER.endings());
        emit MessageFailed(message.nonce, digest, reason);
        return State.Failed;
    }

    // --- custody

    // Native currency and its wrapped form are one account: each rests in the form in which it came, and is turned into the other when a
    // message asks for more of that form than there is.

    /// Debits native currency, and unwraps what there is too little of.
    function _takeNative(uint256 amount) private {
        _debit(wrappedNative, amount);
        uint256 resting = address(this).balance;
        if (resting < amount) IWETH(wrappedNative).withdraw(amount - resting);
    }

    /// Credits what the call left over or sent back.
    function _creditReturned(uint64 nonce, uint256 returned) private {
        if (returned == 0) return;
        _credit(wrappedNative, returned);
        emit NativeReturned(nonce, returned);
    }

    /// Sends and debits what really left.
    function _sendToken(address token, address to, uint256 amount) private {
        uint256 before = IERC20(token).balanceOf(address(this));
        if (token == wrappedNative && before < amount) {
            uint256 held = _accounts[token].held;
            if (amount > held) revert CustodyTooLow(token, held, amount);
            IWETH(token).deposit{value: amount - before}();
            before = amount;
        }
        if (!IERC20(token).trySafeTransfer(to, amount)) revert TransferFailed(token, to, amount);
        uint256 took = before - IERC20(token).balanceOf(address(this));
        if (took > amount) revert TransferTookMore(token, took, amount);
        // A token that says yes and moves nothing must not end the message.
        if (took == 0) revert TransferFailed(token, to, amount);
        _debit(token, took);
    }

    function _credit(address token, uint256 amount) private {
        Account storage account = _accounts[token];
        uint256 held = account.held;
        // No honest token has that many units; one that lies must not overflow the books of its own.
        if (amount > type(uint232).max - held) revert CustodyTooHigh(token, held, amount);
        account.held = uint232(held + amount);
    }

    function _debit(address token, uint256 amount) private {
        Account storage account = _accounts[token];
        uint256 held = account.held;
        if (amount > held) revert CustodyTooLow(token, held, amount);
        account.held = uint232(held - amount);
    }

    /// What is taken once may be in custody for ever, so it stays denied as a target.
    function _setTokenAdmitted(address token, bool isAdmitted) private {
        if (token.code.length == 0) revert NoCode(token);
        Account storage account = _accounts[token];
        account.isAdmitted = isAdmitted;
        if (isAdmitted) account.wasAdmitted = true;
        emit TokenAdmitted(token, isAdmitted);
    }

    function _isFinal(State state) private pure returns (bool) {
        return state == State.Completed || state == State.Rejected || state == State.Expired;
    }

    function _setState(uint64 nonce, State state) private {
        uint256 shift = nonce % 64 * 4;
        _states[nonce / 64] = (_states[nonce / 64] & ~(uint256(0xf) << shift)) | (uint256(state) << shift);
    }

    // --- small checks

    function _announce(address token, uint256 amount, bytes calldata data) private returns (uint64 nonce) {
        nonce = ++_switches.inboundCount;
        emit InboundMessageSent(nonce, msg.sender, token, amount, data);
    }

    function _requireOutbound(Message calldata message) private view {
        if (message.stream != stream) revert StreamUnknown(message.stream);
        Switches memory now_ = _switches;
        if (block.timestamp < now_.outboundPausedUntil) revert OutboundIsPaused(now_.outboundPausedUntil);
        if (now_.exitsPaused && (message.value != 0 || message.amount != 0)) revert ExitsArePaused();
    }

    function _requireDeposits(address token, bytes calldata data) private view {
        if (!_accounts[token].isAdmitted) revert TokenNotAdmitted(token);
        _requireInbound(data);
    }

    function _requireInbound(bytes calldata data) private view {
        if (_switches.depositsPaused) revert DepositsArePaused();
        if (data.length > DATA_MAX) revert DataTooLong(data.length, DATA_MAX);
    }

    function _requireSame(uint64 nonce, bytes32 digest) private view {
        bytes32 known = _known[nonce].digest;
        if (digest != known) revert DigestMismatch(digest, known);
    }

    function _requireBatch(uint256 messages, uint256 others) private pure {
        if (messages == 0 || messages > BATCH_MAX || messages != others) revert BatchMalformed(messages);
    }
}
