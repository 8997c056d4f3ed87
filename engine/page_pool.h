// PagePool: the KV pages and their reference counts, and the index of cached prefixes.
//
// All groups of a model draw from one pool. The prefix index is a tree: a node is one full page of
// token ids that follows its parent's, and names the page of every group that holds their keys and
// values. An edge is found by hash and confirmed by comparing the ids and the parent, so a hit is
// exact all the way to the root (I4). Each salt has a root of its own.
//
// A page is free, owned (references > 0) or cached (in the index, no references): free + owned +
// cached = total (I2). Cached pages are evicted in LRU order, except that pages that a window has
// moved past come first. In groups without a window a node is evicted only after its children,
// which could not be reached without it. Pages of windowed groups are evicted one by one: extending
// a prefix needs nothing from before the window.
//
// Engine thread only (I1). Allocates nothing after construction, except for the first use of a
// salt.
#ifndef BARAM_ENGINE_PAGE_POOL_H_
#define BARAM_ENGINE_PAGE_POOL_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace baram {

struct PagePoolShape {
  int32_t pages = 0;
  int32_t page_tokens = 0;
  std::vector<int32_t> windows;   // [groups], 0: no window
  int32_t max_blocks = 0;         // pages of one group that a sequence can fill
  size_t hash_mask = ~size_t{0};  // applied to the index's hashes; tests make them collide
};

// A reference to a node of the prefix index, which may no longer exist when it is used, see Alive.
struct PrefixNode {
  int32_t index = -1;  // -1: the root
  uint32_t generation = 0;
};

// A prefix that need not be computed, in full pages of tokens. Valid until the pool's next Match,
// or until one of its pages is evicted.
struct PrefixMatch {
  std::span<const int32_t> path;  // index nodes, one per page, in the pool's memory
  PrefixNode node;                // the last of them
  // Pages of the match with no reference; taking them lowers available() by this many.
  int32_t cached = 0;

  int32_t blocks() const { return static_cast<int32_t>(path.size()); }
};

class PagePool {
 public:
  explicit PagePool(const PagePoolShape& shape);

  int32_t groups() const { return static_cast<int32_t>(shape_.windows.size()); }
  int32_t page_tokens() const { return shape_.page_tokens; }
  int32_t total() const { return shape_.pages; }
  int32_t free() const { return static_cast<int32_t>(free_.size()); }
  int32_t cached() const { return cached_; }
  // Pages that Allocate can provide.
  int32_t available() const { return free() + cached_; }

  // The first block of a group that a sequence of `length` tokens still needs: in a windowed group,
  // its next token sees position length - window + 1 and later ones; 0 in others.
  int32_t FirstNeededBlock(int32_t group, int32_t length) const;

  int32_t references(int32_t page) const { return pages_[page].references; }

  // Returns a page with one reference, evicting a cached one if none is free. available() must be
  // positive.
  int32_t Allocate();
  void Acquire(int32_t page);
  void Release(int32_t page);
  // Releases a page that a window has moved past. It is the first to be evicted, since it serves
  // only a prompt that diverges from this one less than a window after it.
  void ReleaseBehindWindow(int32_t page);

  // Salts are interned while they are referenced.
  int32_t AcquireSalt(const std::string& salt);
  void ReleaseSalt(int32_t salt);

  // The longest prefix of `tokens`, at most `max_tokens` long, from which a sequence can continue:
  // it has all pages of the groups without a window, and those that the windows at its end cover.
  PrefixMatch Match(int32_t salt, std::span<const int32_t> tokens, int32_t max_tokens);
  // Whether Take would return `page`, which a sequence holds as its block `block`.
  bool WouldReuse(const PrefixMatch& match, int32_t block, int32_t page) const;
  // The page of `group` for block `block` of the match, with one more reference; -1 if the window
  // needs none.
  int32_t Take(const PrefixMatch& match, int32_t group, int32_t block);

  struct Published {
    PrefixNode node;
    bool known = false;  // the index already had these ids
  };
  // Publishes the full page of token `ids` below `parent`; pages[group] is the page that holds it.
  // If the index already has a page for these ids, it replaces the caller's in `pages`, and the
  // caller's is released: equal prefixes share memory even if they were computed at the same time.
  // Null if `parent` no longer exists or the index has no room.
  std::optional<Published> Publish(int32_t salt, PrefixNode parent, std::span<const int32_t> ids,
                                   std::span<int32_t> pages);
  // Removes the first page of a prefix, token `ids`, from the index, and with it all that extends
  // it: no Match finds them any more. Sequences that hold their pages keep them; the others are
  // evicted in their turn.
  void Unpublish(int32_t salt, std::span<const int32_t> ids);
  // The node `levels` above `node`; the root if there are fewer.
  PrefixNode Ancestor(PrefixNode node, int32_t levels) const;
  bool Alive(PrefixNode node) const;

  // Aborts unless every count, list and link agrees with `references`: how many live sequences hold
  // each page (I2).
  void CheckInvariants(std::span<const int32_t> references) const;

 private:
  struct Page {
    int32_t references = 0;
    int32_t node = -1;                 // of the index, or -1
    int32_t group = 0;                 // valid if `node` is
    int32_t previous = -1, next = -1;  // in the LRU list
    bool listed = false;
    uint64_t released = 0;  // releases_ when the last reference was released
  };
  struct Node {
    int32_t parent = -1;
    int32_t salt = -1;  // -1: not in use
    int32_t children = 0;
    int32_t next_in_bucket = -1;
    bool unpublished = false;  // in no bucket
    uint32_t generation = 0;
    size_t hash = 0;
  };

  std::span<const int32_t> Ids(int32_t node) const;
  int32_t& PageOf(int32_t node, int32_t group) { return node_pages_[node * groups() + group]; }
  int32_t PageOf(int32_t node, int32_t group) const { return node_pages_[node * groups() + group]; }
  size_t Hash(int32_t parent, int32_t salt, std::span<const int32_t> ids) const;
  int32_t Find(int32_t parent, int32_t salt, std::span<const int32_t> ids) const;
  int32_t NewNode(int32_t parent, int32_t salt, std::span<const int32_t> ids);
  void LeaveBucket(int32_t node);
  bool Empty(int32_t node) const;
  // Frees `node` and then its ancestors, as long as they have neither pages nor children.
  void Prune(int32_t node);
  bool IsEvictable(int32_t page) const;
  void Enqueue(int32_t page);
  void EnqueueByAge(int32_t page);
  void Link(int32_t page, int32_t before);
  void Dequeue(int32_t page);
  // Evicts the first page of the LRU list, and the pages that cannot be reached without it.
  void Evict();
  void DropFromIndex(int32_t page);

  PagePoolShape shape_;
  int32_t anchor_group_ = -1;  // the first without a window: its pages stand for nodes in the list
  std::vector<Page> pages_;
  std::vector<int32_t> free_;
  int32_t cached_ = 0;
  int32_t oldest_ = -1, newest_ = -1;  // ends of the LRU list
  uint64_t releases_ = 0;

  std::vector<Node> nodes_;
  std::vector<int32_t> node_ids_;    // [nodes, page_tokens]
  std::vector<int32_t> node_pages_;  // [nodes, groups], -1: none
  std::vector<int32_t> free_nodes_;
  std::vector<int32_t> buckets_;  // first node of each; their number is a power of two
  std::vector<int32_t> path_;     // see PrefixMatch
  std::vector<int32_t> runs_;     // [groups] scratch of Match

  struct Salt {
    std::string text;
    int64_t references = 0;
  };
  std::vector<Salt> salts_;
  std::vector<int32_t> free_salts_;
  absl::flat_hash_map<std::string, int32_t> salt_of_;
};

}  // namespace baram

#endif  // BARAM_ENGINE_PAGE_POOL_H_
