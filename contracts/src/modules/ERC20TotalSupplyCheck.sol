// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Message} from "../types/Message.sol";
import {Phase, Verdict} from "../types/State.sol";
import {IValidationModule} from "../interfaces/IValidationModule.sol";
import {Module} from "./Module.sol";

/// @title A ceiling for the supply of one token
/// @notice Undoes a message after which there is more of the token than a fixed amount. For tokens that the bridge's messages mint. Belongs
/// into phase Post; in phase Pre it would say what was wrong before.
contract ERC20TotalSupplyCheck is Module {
    /// The token.
    IERC20 public immutable TOKEN;
    /// The most of it there may be.
    uint256 public immutable SUPPLY_MAX;

    constructor(address registry, IERC20 token, uint256 supplyMax) Module(registry) {
        TOKEN = token;
        SUPPLY_MAX = supplyMax;
    }

    /// @inheritdoc IValidationModule
    function checkMessage(Message calldata, Phase) external view override onlyRegistry returns (Verdict) {
        return TOKEN.totalSupply() <= SUPPLY_MAX ? Verdict.Pass : Verdict.Reject;
    }
}
