// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice Counts calls, and fails while told to.
contract Counter {
    error ToldToFail(uint256 calls);

    uint256 public calls;
    address public lastCaller;
    bool public isFailing;

    function setFailing(bool isFailing_) external {
        isFailing = isFailing_;
    }

    function count() external payable {
        if (isFailing) revert ToldToFail(calls);
        calls++;
        lastCaller = msg.sender;
    }

    receive() external payable {}
}

/// @notice Burns all gas it gets.
contract GasBurner {
    fallback() external {
        while (true) {}
    }
}

/// @notice Returns, or reverts with, a lot.
contract HugeReturn {
    bool public isReverting;
    uint256 public length = 100_000;

    function setReverting(bool isReverting_) external {
        isReverting = isReverting_;
    }

    fallback(bytes calldata) external returns (bytes memory) {
        if (!isReverting) return new bytes(length);
        revert(string(new bytes(length)));
    }
}

/// @notice Enters the bridge again, with any call, and remembers what came of it.
contract Reentrant {
    address private immutable _BRIDGE;
    bytes private _call;
    bool public isTried;
    bool public isDone;
    bytes public returned;

    constructor(address bridge) {
        _BRIDGE = bridge;
    }

    function setCall(bytes calldata call) external {
        _call = call;
    }

    fallback() external {
        isTried = true;
        (isDone, returned) = _BRIDGE.call(_call);
    }
}

/// @notice Sends back half of what it gets.
contract Returner {
    function half() external payable {
        (bool isSent,) = msg.sender.call{value: msg.value / 2}("");
        require(isSent);
    }
}
