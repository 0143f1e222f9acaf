// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Rfc9162} from "./Rfc9162.sol";

/// @title Registry of append-only logs
/// @notice Keeps the latest head (size, root) of each registered Merkle log and accepts a newer one only with a proof
/// that it extends the stored one. A log that was rewritten can therefore not be anchored again, by anybody.
/// @dev The owner admits logs and names who may publish for them. Nobody, the owner included, can set a head back,
/// replace it or skip the proof, and the code cannot be exchanged: there is no proxy and no override.
/// WARNING: a consistency proof does not bind the new size (see Rfc9162). The size is the publisher's claim; the log's
/// signed checkpoint of the same size makes a wrong claim provable.
contract AnchorRegistry {
    /// @dev Two storage slots a log: publisher, size and time share the first, so one read answers
    /// both who may anchor and how far the log is.
    struct Head {
        address publisher;
        uint64 size;
        uint32 anchoredAt;
        bytes32 root;
    }

    /// @notice Who may register logs and change their publishers.
    address public owner;
    /// @notice Who may take over as owner by calling `acceptOwnership`.
    address public pendingOwner;

    mapping(bytes32 logId => Head head) private _heads;

    /// @notice A log was admitted. `logId` is the SHA-256 hash of `origin`.
    event LogRegistered(bytes32 indexed logId, string origin, address indexed publisher);
    /// @notice From now on only `publisher` may anchor this log.
    event PublisherChanged(bytes32 indexed logId, address indexed previous, address indexed publisher);
    /// @notice The log has grown from `prevSize` to `size` leaves. `prevSize` chains the events without a gap.
    event Anchored(bytes32 indexed logId, uint64 indexed size, bytes32 root, uint64 prevSize);
    /// @notice `to` may now accept the ownership.
    event OwnershipTransferStarted(address indexed from, address indexed to);
    /// @notice The ownership has passed on.
    event OwnershipTransferred(address indexed from, address indexed to);

    /// @notice Only the owner may do this.
    error NotOwner(address caller);
    /// @notice Only the account named by `transferOwnership` may accept.
    error NotPendingOwner(address caller);
    /// @notice Only the log's publisher may anchor it.
    error NotPublisher(bytes32 logId, address caller);
    /// @notice The zero address can neither publish nor own.
    error ZeroAddress();
    /// @notice This log was never registered.
    error UnknownLog(bytes32 logId);
    /// @notice This log is registered already.
    error AlreadyRegistered(bytes32 logId);
    /// @notice A new head must be larger than the stored one.
    error NotGrowing(bytes32 logId, uint64 current, uint64 offered);
    /// @notice The proof does not show the offered head to be an extension of the stored one.
    error Inconsistent(bytes32 logId, uint64 current, uint64 offered);
    /// @notice The stored head has another size than the one asked for.
    error NotLatest(bytes32 logId, uint64 current, uint64 asked);

    modifier onlyOwner() {
        if (msg.sender != owner) revert NotOwner(msg.sender);
        _;
    }

    /// @param initialOwner who may register logs
    constructor(address initialOwner) {
        if (initialOwner == address(0)) revert ZeroAddress();
        owner = initialOwner;
        emit OwnershipTransferred(address(0), initialOwner);
    }

    /// @notice Offers the ownership to `to`; it passes on only when `to` accepts. The zero address withdraws an offer.
    function transferOwnership(address to) external onlyOwner {
        pendingOwner = to;
        emit OwnershipTransferStarted(msg.sender, to);
    }

    /// @notice Takes an offered ownership.
    function acceptOwnership() external {
        if (msg.sender != pendingOwner) revert NotPendingOwner(msg.sender);
        emit OwnershipTransferred(owner, msg.sender);
        owner = msg.sender;
        delete pendingOwner;
    }

    /// @notice Admits the log with this origin. Its head starts empty.
    /// @param origin the log's unique name, as in its checkpoints
    /// @param publisher who may anchor it
    /// @return logId SHA-256 hash of the origin's UTF-8 bytes
    function registerLog(string calldata origin, address publisher) external onlyOwner returns (bytes32 logId) {
        if (publisher == address(0)) revert ZeroAddress();
        logId = sha256(bytes(origin));
        Head storage stored = _heads[logId];
        if (stored.publisher != address(0)) revert AlreadyRegistered(logId);
        stored.publisher = publisher;
        emit LogRegistered(logId, origin, publisher);
    }

    /// @notice Names another publisher, for example after a key was lost. The head stays as it is.
    function setPublisher(bytes32 logId, address publisher) external onlyOwner {
        if (publisher == address(0)) revert ZeroAddress();
        Head storage stored = _heads[logId];
        address previous = stored.publisher;
        if (previous == address(0)) revert UnknownLog(logId);
        stored.publisher = publisher;
        emit PublisherChanged(logId, previous, publisher);
    }

    /// @notice Stores a larger head. The first one of a log comes with an empty proof, every later one with the
    /// RFC 9162 consistency proof from the stored size.
    /// @param logId SHA-256 hash of the log's origin
    /// @param newSize number of leaves
    /// @param newRoot root over these leaves
    /// @param proof consistency proof from the stored size to `newSize`
    function anchor(bytes32 logId, uint64 newSize, bytes32 newRoot, bytes32[] calldata proof) external {
        Head storage stored = _heads[logId];
        address publisher = stored.publisher;
        uint64 current = stored.size;
        if (publisher != msg.sender) {
            if (publisher == address(0)) revert UnknownLog(logId);
            revert NotPublisher(logId, msg.sender);
        }
        if (newSize <= current) revert NotGrowing(logId, current, newSize);
        bool extends =
            current == 0 ? proof.length == 0 : Rfc9162.isConsistent(current, stored.root, newSize, newRoot, proof);
        if (!extends) revert Inconsistent(logId, current, newSize);
        // all fields of the first slot are assigned together, so that they cost one store
        stored.publisher = publisher;
        stored.size = newSize;
        stored.anchoredAt = uint32(block.timestamp);
        stored.root = newRoot;
        emit Anchored(logId, newSize, newRoot, current);
    }

    /// @notice The latest head of a log. An unknown log has the publisher zero.
    /// @return publisher who may anchor it
    /// @return size number of leaves, zero before the first anchor
    /// @return anchoredAt time of the block that holds the latest anchor, in Unix seconds
    /// @return root root over the leaves
    function head(bytes32 logId)
        external
        view
        returns (address publisher, uint64 size, uint32 anchoredAt, bytes32 root)
    {
        Head storage stored = _heads[logId];
        return (stored.publisher, stored.size, stored.anchoredAt, stored.root);
    }

    /// @notice Whether a leaf is part of the latest head. Reverts when `size` is not that head's size; for older
    /// heads take (size, root) from an `Anchored` event and ask `verifyInclusionAt`.
    function verifyInclusion(bytes32 logId, bytes32 leafHash, uint64 index, uint64 size, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        Head storage stored = _heads[logId];
        uint64 current = stored.size;
        if (size != current) revert NotLatest(logId, current, size);
        (bytes32 root, bool complete) = Rfc9162.inclusionRoot(leafHash, index, size, proof);
        return complete && root == stored.root;
    }

    /// @notice Whether a leaf is part of the tree (size, root). Reads nothing stored.
    function verifyInclusionAt(bytes32 root, bytes32 leafHash, uint64 index, uint64 size, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        (bytes32 computed, bool complete) = Rfc9162.inclusionRoot(leafHash, index, size, proof);
        return complete && computed == root;
    }

    /// @notice Whether the second head extends the first. Two heads of one size agree only when they are equal and
    /// the proof is empty. Reads nothing stored.
    function verifyConsistency(
        uint64 first,
        bytes32 firstRoot,
        uint64 second,
        bytes32 secondRoot,
        bytes32[] calldata proof
    ) external view returns (bool) {
        if (first == second) return first != 0 && proof.length == 0 && firstRoot == secondRoot;
        return Rfc9162.isConsistent(first, firstRoot, second, secondRoot, proof);
    }
}
