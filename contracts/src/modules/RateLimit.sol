// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Message} from "../types/Message.sol";
import {Phase, Verdict} from "../types/State.sol";
import {IValidationModule} from "../interfaces/IValidationModule.sol";
import {Module} from "./Module.sol";

/// @title So much of each token in a time, and the rest later
/// @notice A token bucket for each token. What does not fit waits for a fixed time from when it was brought first, and then goes without
/// the bucket: nothing is stopped for ever, and who watches has time to pause. A token without a limit has an empty bucket, so each
/// message that moves it waits. Native currency counts as the wrapped token. Belongs into **both** phases: it looks in phase Pre and
/// charges in phase Post, where a call that fails takes the charge back.
contract RateLimit is Module, Ownable2Step {
    /// How much of a token goes in a second on average, how full its bucket was, and when. One storage slot.
    struct Bucket {
        uint104 perSecond;
        uint112 level;
        uint40 updatedAt;
    }

    /// How much of a token goes in a second on average.
    struct Limit {
        address token;
        uint104 perSecond;
    }

    /// The owner set the limit of a token; its bucket is full.
    event LimitSet(address indexed token, uint104 perSecond);
    /// A message waits.
    event MessageQueued(uint64 indexed nonce, uint64 availableAt);

    /// How long a message waits that does not fit, in seconds.
    uint64 public immutable DELAY;
    /// A bucket holds what flows into it in so many seconds.
    uint64 public immutable PERIOD;
    /// As what native currency counts.
    address public immutable WRAPPED_NATIVE;

    mapping(address token => Bucket) private _buckets;
    /// By the hash of the whole message: another one under its nonce waits anew.
    mapping(bytes32 message => uint64) private _availableAt;

    /// @param limits Those from the start; each bucket is full.
    constructor(address registry, address owner_, address wrappedNative, uint64 period, uint64 delay, Limit[] memory limits)
        Module(registry)
        Ownable(owner_)
    {
        WRAPPED_NATIVE = wrappedNative;
        PERIOD = period;
        DELAY = delay;
        for (uint256 i = 0; i < limits.length; i++) {
            _setLimit(limits[i].token, limits[i].perSecond);
        }
    }

    /// @notice Sets the limit of a token, and fills its bucket. The owner's.
    function setLimit(address token, uint104 perSecond) external onlyOwner {
        _setLimit(token, perSecond);
    }

    /// @inheritdoc IValidationModule
    function checkMessage(Message calldata message, Phase phase) external override onlyRegistry returns (Verdict) {
        (uint256 native, uint256 other) = _moved(message);
        if (_fits(WRAPPED_NATIVE, native) && _fits(message.token, other)) {
            if (phase == Phase.Post) {
                _charge(WRAPPED_NATIVE, native);
                _charge(message.token, other);
            }
            return Verdict.Pass;
        }
        bytes32 id = keccak256(abi.encode(message));
        uint64 due = _availableAt[id];
        if (due == 0) {
            due = uint64(block.timestamp) + DELAY;
            _availableAt[id] = due;
            emit MessageQueued(message.nonce, due);
        }
        return block.timestamp < due ? Verdict.Wait : Verdict.Pass;
    }

    /// @notice How much of a token goes without waiting.
    function levelOf(address token) public view returns (uint256) {
        Bucket memory bucket = _buckets[token];
        uint256 capacity = uint256(bucket.perSecond) * PERIOD;
        if (capacity > type(uint112).max) capacity = type(uint112).max;
        uint256 level = uint256(bucket.level) + uint256(bucket.perSecond) * (block.timestamp - bucket.updatedAt);
        return level < capacity ? level : capacity;
    }

    /// @notice How much of a token flows into its bucket in a second.
    function flowOf(address token) external view returns (uint104) {
        return _buckets[token].perSecond;
    }

    /// @notice When a message that waits may go, or zero.
    function availableAt(Message calldata message) external view returns (uint64) {
        return _availableAt[keccak256(abi.encode(message))];
    }

    function _setLimit(address token, uint104 perSecond) private {
        _buckets[token] = Bucket(perSecond, 0, 0);
        _buckets[token].level = uint112(levelOf(token));
        _buckets[token].updatedAt = uint40(block.timestamp);
        emit LimitSet(token, perSecond);
    }

    /// What a message moves of native currency and of its token; all is native where the token is the wrapped one.
    function _moved(Message calldata message) private view returns (uint256 native, uint256 other) {
        if (message.amount == 0 || message.token != WRAPPED_NATIVE) return (message.value, message.amount);
        // Custody holds both, so a sum that overflows cannot be moved: it is as much as there can be.
        uint256 max = type(uint256).max;
        return (message.value > max - message.amount ? max : message.value + message.amount, 0);
    }

    function _fits(address token, uint256 amount) private view returns (bool) {
        return amount == 0 || amount <= levelOf(token);
    }

    function _charge(address token, uint256 amount) private {
        if (amount == 0) return;
        // No more than the level, which fits.
        _buckets[token].level = uint112(levelOf(token) - amount);
        _buckets[token].updatedAt = uint40(block.timestamp);
    }
}
