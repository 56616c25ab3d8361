// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {RateLimit} from "../../src/modules/RateLimit.sol";
import {vm} from "../support/Vm.sol";
import {anyStorage} from "./Svm.sol";

/// @notice Whatever a bucket holds, its level is no more than its capacity, and reading it never overflows.
contract LevelProof {
    /// The owner, the next owner.
    uint256 private constant SLOTS = 2;
    uint64 private constant PERIOD = 1 days;

    RateLimit private _limit;

    function setUp() public {
        _limit = new RateLimit(address(this), address(0xa11ce), address(0x3e78), PERIOD, 1 hours, new RateLimit.Limit[](0));
    }

    function check_level_isWithinCapacity(address token, uint40 time) public {
        anyStorage(address(_limit), SLOTS);
        vm.warp(time);
        (uint256 perSecond,,) = _bucket(token);
        uint256 level = _limit.levelOf(token);
        assert(level <= perSecond * PERIOD);
        assert(level <= type(uint112).max);
    }

    /// The fastest bucket after the longest time: all other products are smaller. No solver divides two unknown words of 256 bits in time.
    function check_level_doesNotOverflowAtItsMost(address token, uint112 level) public {
        bytes32 slot = keccak256(abi.encode(token, uint256(2)));
        vm.store(address(_limit), slot, bytes32(uint256(level) << 104 | type(uint104).max));
        vm.warp(type(uint40).max);
        (bool isDone, bytes memory returned) = address(_limit).staticcall(abi.encodeCall(RateLimit.levelOf, (token)));
        assert(isDone);
        assert(abi.decode(returned, (uint256)) == type(uint112).max);
    }

    function _bucket(address token) private view returns (uint104 perSecond, uint112 level, uint40 updatedAt) {
        uint256 word = uint256(vm.load(address(_limit), keccak256(abi.encode(token, uint256(2)))));
        return (uint104(word), uint112(word >> 104), uint40(word >> 216));
    }
}
