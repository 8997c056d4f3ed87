// PagePool: who holds which KV page, and which prefixes of earlier prompts are still there.
//
// All groups of a model draw from one pool. The prefix index is a tree: a node is one full page of
// token ids below its parent, and names the page of every group that holds their keys and values.
// An edge is found by hash and decided by comparing the ids and the parent, so a hit is exact all
// the way to the root (I4). Roots are told apart by the request's salt.
//
// A page is free, owned (references > 0) or cached (in the index, no references):
// free + owned + cached = total (I2). Cached pages are taken back least recently used first, but
// before all others what windows have left; in groups that see the whole past a node goes only
// after its children, since they could not be reached without it. Pages of windowed groups go
// alone: what lies past the window is not needed to extend a prefix.
//
// Owned by the engine thread (I1). Allocates nothing after construction, but for a salt's first
// use.
#ifndef BARAM_ENGINE_PAGE_POOL_H_
#define BARAM_ENGINE_PAGE_POOL_H_

#include <cstdint>
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
  size_t hash_mask = ~size_t{0};  // of the index; tests make all hashes collide
};

// A node of the prefix index that may be gone by the time it is used.
struct PrefixNode {
  int32_t index = -1;  // -1: the root
  uint32_t generation = 0;
};

// A prefix that needs no computing, in full pages of tokens. Holds until the pool's next Match, or
// until a page of it is taken back.
struct PrefixMatch {
  std::span<const int32_t> path;  // index nodes, one a page: the pool's memory
  PrefixNode node;                // the last of them
  int32_t cached = 0;  // how many of the pages to take nobody holds: they leave available()

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
  // Pages that Allocate can give out.
  int32_t available() const { return free() + cached_; }

  // The first block of a windowed group that a sequence of `length` tokens still needs: its next
  // token sees position length - window + 1 and later ones.
  int32_t FirstNeededBlock(int32_t group, int32_t length) const;

  int32_t references(int32_t page) const { return pages_[page].references; }

  // A page with one reference, taken from the cache when none is free. available() must be
  // positive.
  int32_t Allocate();
  void Acquire(int32_t page);
  void Release(int32_t page);
  // Of a page that a window has left: the first to be taken back, since it serves only a prompt
  // that leaves this one within the window behind it.
  void ReleaseLeft(int32_t page);

  // Salts are interned while somebody holds them.
  int32_t AcquireSalt(const std::string& salt);
  void ReleaseSalt(int32_t salt);

  // The longest prefix of `tokens`, of at most `max_tokens`, from which a sequence can go on: every
  // page of the groups that see all the past, and the windows' pages at its end.
  PrefixMatch Match(int32_t salt, std::span<const int32_t> tokens, int32_t max_tokens);
  // Whether Take gives that very page, which somebody holds for his block `block`.
  bool Takes(const PrefixMatch& match, int32_t block, int32_t page) const;
  // Page of `group` for block `block` of the match, with one more reference; -1 where the window
  // needs none.
  int32_t Take(const PrefixMatch& match, int32_t group, int32_t block);

  // Publishes the full page of token `ids` below `parent`; pages[group] is the page that holds it.
  // Where the index has a page for the same ids already, it replaces the caller's in `pages` and
  // the caller's is released: equal prefixes share memory even when they were computed at the same
  // time. `known`, which may be null: whether the index had these ids. Returns false if `parent` is
  // gone or there is no room in the index.
  bool Publish(int32_t salt, PrefixNode parent, std::span<const int32_t> ids,
               std::span<int32_t> pages, PrefixNode* node, bool* known = nullptr);
  // Takes the first page of a prefix, token `ids`, out of the index, and so all that extends it:
  // nobody finds them any more. Who holds their pages keeps them; the others' are taken back in
  // their turn.
  void Unpublish(int32_t salt, std::span<const int32_t> ids);
  // The node `levels` above, the root at most.
  PrefixNode Ancestor(PrefixNode node, int32_t levels) const;
  bool Alive(PrefixNode node) const;

  // Aborts unless every count, list and link agrees with `references`, the pages held by live
  // sequences counted one by one (I2).
  void CheckInvariants(std::span<const int32_t> references) const;

 private:
  struct Page {
    int32_t references = 0;
    int32_t node = -1;                 // of the index, or -1
    int32_t group = 0;                 // valid with `node`
    int32_t previous = -1, next = -1;  // in the list of what can be taken back
    bool listed = false;
    uint64_t released = 0;  // when the last reference went
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
  // Frees `node` and then its ancestors, as far as they have neither pages nor children.
  void Prune(int32_t node);
  bool CanTakeBack(int32_t page) const;
  void List(int32_t page);
  void ListByAge(int32_t page);
  void Link(int32_t page, int32_t before);
  void Unlist(int32_t page);
  // Takes back the first page of the list, and with it what cannot be reached without it.
  void Evict();
  void Forget(int32_t page);

  PagePoolShape shape_;
  int32_t anchor_group_ = -1;  // the first group without a window: its page stands for its node
  std::vector<Page> pages_;
  std::vector<int32_t> free_;
  int32_t cached_ = 0;
  int32_t oldest_ = -1, newest_ = -1;  // of the list
  uint64_t releases_ = 0;

  std::vector<Node> nodes_;
  std::vector<int32_t> node_ids_;    // [nodes, page_tokens]
  std::vector<int32_t> node_pages_;  // [nodes, groups], -1: none
  std::vector<int32_t> free_nodes_;
  std::vector<int32_t> buckets_;  // first node of each, a power of two
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
