// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Message} from "../types/Message.sol";
import {Phase, Verdict} from "../types/State.sol";
import {IValidationModule} from "../interfaces/IValidationModule.sol";
import {Module} from "./Module.sol";

/// @title How much of one token a message may mint
/// @notice Compares the supply before and after the call. Belongs into **both** phases; in phase Post alone it stops every message.
contract ERC20MaxSupplyIncrease is Module {
    /// The token.
    IERC20 public immutable TOKEN;
    /// By how much one message may increase its supply.
    uint256 public immutable INCREASE_MAX;

    /// The supply before the call, of the message that runs; and whether it was looked at. Transient: it means nothing to another
    /// transaction.
    uint256 private transient _before;
    uint256 private transient _nonceSeen;

    constructor(address registry, IERC20 token, uint256 increaseMax) Module(registry) {
        TOKEN = token;
        INCREASE_MAX = increaseMax;
    }

    /// @inheritdoc IValidationModule
    function checkMessage(Message calldata message, Phase phase) external override onlyRegistry returns (Verdict) {
        uint256 supply = TOKEN.totalSupply();
        // One more, so that nonce 0 is told from nothing.
        uint256 nonce = uint256(message.nonce) + 1;
        if (phase == Phase.Pre) {
            (_before, _nonceSeen) = (supply, nonce);
            return Verdict.Pass;
        }
        if (_nonceSeen != nonce) return Verdict.Reject;
        return supply <= _before || supply - _before <= INCREASE_MAX ? Verdict.Pass : Verdict.Reject;
    }
}
