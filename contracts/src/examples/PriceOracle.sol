// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title A price feed that an application with SyndDB writes
/// @notice An example of a target. It believes the executor of one bridge, so what it stores was signed by a quorum. Prices only get newer: messages
/// may be executed out of order, and a retried old one must not undo a new one.
contract PriceOracle {
    /// A price, with the unit that the application chose, and when it was seen, in ms since 1970.
    struct Price {
        uint192 value;
        uint64 atMs;
    }

    /// A price was stored.
    event PriceSet(bytes32 indexed pair, uint192 value, uint64 atMs);

    /// Only the executor sets prices.
    error NotExecutor(address caller);
    /// What is known is as new.
    error NotNewer(bytes32 pair, uint64 known, uint64 given);
    /// The price is unknown, or older than the reader takes.
    error TooOld(bytes32 pair, uint64 known, uint256 oldest);

    /// Whom the oracle believes.
    address public immutable EXECUTOR;

    mapping(bytes32 pair => Price) private _prices;

    constructor(address executor) {
        EXECUTOR = executor;
    }

    /// @notice Stores a price that is newer than the known one. The executor's.
    function setPrice(bytes32 pair, uint192 value, uint64 atMs) external {
        // checks
        if (msg.sender != EXECUTOR) revert NotExecutor(msg.sender);
        uint64 known = _prices[pair].atMs;
        if (atMs <= known) revert NotNewer(pair, known, atMs);

        // effects
        _prices[pair] = Price(value, atMs);
        emit PriceSet(pair, value, atMs);
    }

    /// @notice A price that is at most so old. Reverts when there is none.
    function priceOf(bytes32 pair, uint256 ageMsMax) external view returns (Price memory price) {
        price = _prices[pair];
        uint256 now_ = block.timestamp * 1000;
        uint256 oldest = now_ > ageMsMax ? now_ - ageMsMax : 0;
        if (price.atMs == 0 || price.atMs < oldest) revert TooOld(pair, price.atMs, oldest);
    }
}
