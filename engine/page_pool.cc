// PagePool: references, the prefix tree and the order of eviction.
#include "engine/page_pool.h"

#include <algorithm>
#include <bit>

#include "absl/hash/hash.h"
#include "absl/types/span.h"
#include "kernels/check.h"

namespace baram {
namespace {

// How many pages EnqueueByAge compares before it settles for the newest end.
constexpr int kAgeSteps = 64;
// Pages that Publish evicts to make room for a node: only a model whose layers all have windows can
// have more nodes than pages.
constexpr int kNodeEvictions = 16;

}  // namespace

PagePool::PagePool(const PagePoolShape& shape) : shape_(shape) {
  Check(shape.pages > 0 && shape.page_tokens > 0 && !shape.windows.empty(), "a pool has pages");
  for (int32_t group = groups() - 1; group >= 0; --group) {
    if (shape.windows[group] == 0) anchor_group_ = group;
  }
  pages_.resize(shape.pages);
  free_.resize(shape.pages);
  for (int32_t i = 0; i < shape.pages; ++i) free_[i] = shape.pages - 1 - i;
  // One node per page, plus the longest chain of nodes whose pages all slid out of their windows.
  const int32_t nodes = shape.pages + shape.max_blocks;
  nodes_.resize(nodes);
  node_ids_.resize(int64_t{nodes} * shape.page_tokens);
  node_pages_.assign(int64_t{nodes} * groups(), -1);
  free_nodes_.resize(nodes);
  for (int32_t i = 0; i < nodes; ++i) free_nodes_[i] = nodes - 1 - i;
  buckets_.assign(std::bit_ceil(static_cast<uint32_t>(2 * nodes)), -1);
  path_.reserve(shape.max_blocks + 1);
  runs_.resize(groups());
}

int32_t PagePool::FirstNeededBlock(int32_t group, int32_t length) const {
  const int32_t window = shape_.windows[group];
  if (window == 0) return 0;
  return std::max(0, length - window + 1) / shape_.page_tokens;
}

int32_t PagePool::Allocate() {
  if (free_.empty()) Evict();
  Check(!free_.empty(), "Allocate is called only when a page is available");
  const int32_t page = free_.back();
  free_.pop_back();
  pages_[page].references = 1;
  return page;
}

void PagePool::Acquire(int32_t page) {
  Page& entry = pages_[page];
  if (entry.references == 0) {
    Check(entry.node >= 0, "a page without references is acquired only from the index");
    if (entry.listed) Dequeue(page);
    --cached_;
  }
  ++entry.references;
}

void PagePool::Release(int32_t page) {
  Page& entry = pages_[page];
  Check(entry.references > 0, "a page is released by somebody who holds it");
  if (--entry.references > 0) return;
  entry.released = ++releases_;
  if (entry.node < 0) {
    free_.push_back(page);
    return;
  }
  ++cached_;
  if (IsEvictable(page)) Enqueue(page);
}

void PagePool::ReleaseBehindWindow(int32_t page) {
  Release(page);
  if (!pages_[page].listed || oldest_ == page) return;
  Dequeue(page);
  Link(page, oldest_);
}

int32_t PagePool::AcquireSalt(const std::string& salt) {
  auto [it, added] = salt_of_.try_emplace(salt, -1);
  if (added) {
    if (free_salts_.empty()) {
      free_salts_.push_back(static_cast<int32_t>(salts_.size()));
      salts_.emplace_back();
    }
    it->second = free_salts_.back();
    free_salts_.pop_back();
    salts_[it->second] = {salt, 0};
  }
  ++salts_[it->second].references;
  return it->second;
}

void PagePool::ReleaseSalt(int32_t salt) {
  if (--salts_[salt].references > 0) return;
  salt_of_.erase(salts_[salt].text);
  free_salts_.push_back(salt);
}

std::span<const int32_t> PagePool::Ids(int32_t node) const {
  return {node_ids_.data() + int64_t{node} * shape_.page_tokens,
          static_cast<size_t>(shape_.page_tokens)};
}

size_t PagePool::Hash(int32_t parent, int32_t salt, std::span<const int32_t> ids) const {
  return absl::HashOf(parent, salt, absl::Span<const int32_t>(ids.data(), ids.size())) &
         shape_.hash_mask;
}

int32_t PagePool::Find(int32_t parent, int32_t salt, std::span<const int32_t> ids) const {
  const size_t hash = Hash(parent, salt, ids);
  int32_t node = buckets_[hash & (buckets_.size() - 1)];
  for (; node >= 0; node = nodes_[node].next_in_bucket) {
    const Node& entry = nodes_[node];
    if (entry.hash == hash && entry.parent == parent && entry.salt == salt &&
        std::ranges::equal(Ids(node), ids)) {
      return node;
    }
  }
  return -1;
}

int32_t PagePool::NewNode(int32_t parent, int32_t salt, std::span<const int32_t> ids) {
  const int32_t node = free_nodes_.back();
  free_nodes_.pop_back();
  Node& entry = nodes_[node];
  entry.parent = parent;
  entry.salt = salt;
  entry.children = 0;
  entry.unpublished = false;
  entry.hash = Hash(parent, salt, ids);
  int32_t& bucket = buckets_[entry.hash & (buckets_.size() - 1)];
  entry.next_in_bucket = bucket;
  bucket = node;
  std::ranges::copy(ids, node_ids_.begin() + int64_t{node} * shape_.page_tokens);
  ++salts_[salt].references;
  if (parent >= 0) {
    ++nodes_[parent].children;
    // The parent can no longer be evicted before its child.
    if (anchor_group_ >= 0) {
      const int32_t page = PageOf(parent, anchor_group_);
      if (page >= 0 && pages_[page].listed) Dequeue(page);
    }
  }
  return node;
}

void PagePool::LeaveBucket(int32_t node) {
  int32_t* link = &buckets_[nodes_[node].hash & (buckets_.size() - 1)];
  while (*link != node) link = &nodes_[*link].next_in_bucket;
  *link = nodes_[node].next_in_bucket;
}

bool PagePool::Empty(int32_t node) const {
  for (int32_t group = 0; group < groups(); ++group) {
    if (PageOf(node, group) >= 0) return false;
  }
  return true;
}

void PagePool::Prune(int32_t node) {
  while (node >= 0 && nodes_[node].children == 0 && Empty(node)) {
    Node& entry = nodes_[node];
    if (!entry.unpublished) LeaveBucket(node);
    const int32_t parent = entry.parent;
    ReleaseSalt(entry.salt);
    entry.salt = -1;
    ++entry.generation;
    free_nodes_.push_back(node);
    if (parent >= 0) {
      --nodes_[parent].children;
      if (anchor_group_ >= 0) {
        const int32_t page = PageOf(parent, anchor_group_);
        if (page >= 0 && IsEvictable(page) && !pages_[page].listed) EnqueueByAge(page);
      }
    }
    node = parent;
  }
}

bool PagePool::IsEvictable(int32_t page) const {
  const Page& entry = pages_[page];
  if (entry.references > 0 || entry.node < 0) return false;
  if (shape_.windows[entry.group] > 0) return true;
  return entry.group == anchor_group_ && nodes_[entry.node].children == 0;
}

// Inserts `page` before `before` in the LRU list; -1: at the newest end.
void PagePool::Link(int32_t page, int32_t before) {
  Page& entry = pages_[page];
  entry.listed = true;
  entry.next = before;
  entry.previous = before < 0 ? newest_ : pages_[before].previous;
  (entry.previous < 0 ? oldest_ : pages_[entry.previous].next) = page;
  (before < 0 ? newest_ : pages_[before].previous) = page;
}

void PagePool::Enqueue(int32_t page) { Link(page, -1); }

// A parent whose last child has just been removed is about as old as the child: near the oldest
// end.
void PagePool::EnqueueByAge(int32_t page) {
  int32_t before = oldest_;
  for (int step = 0; before >= 0 && pages_[before].released < pages_[page].released; ++step) {
    if (step == kAgeSteps) {
      before = -1;
      break;
    }
    before = pages_[before].next;
  }
  Link(page, before);
}

void PagePool::Dequeue(int32_t page) {
  Page& entry = pages_[page];
  (entry.previous < 0 ? oldest_ : pages_[entry.previous].next) = entry.next;
  (entry.next < 0 ? newest_ : pages_[entry.next].previous) = entry.previous;
  entry.previous = entry.next = -1;
  entry.listed = false;
}

void PagePool::DropFromIndex(int32_t page) {
  Page& entry = pages_[page];
  Check(entry.references == 0, "only a cached page is taken back");
  if (entry.listed) Dequeue(page);
  PageOf(entry.node, entry.group) = -1;
  entry.node = -1;
  --cached_;
  free_.push_back(page);
}

void PagePool::Evict() {
  const int32_t page = oldest_;
  Check(page >= 0, "a cached page can be taken back");
  const int32_t node = pages_[page].node;
  if (shape_.windows[pages_[page].group] > 0) {
    DropFromIndex(page);
  } else {
    for (int32_t group = 0; group < groups(); ++group) {
      if (PageOf(node, group) >= 0) DropFromIndex(PageOf(node, group));
    }
  }
  Prune(node);
}

PrefixMatch PagePool::Match(int32_t salt, std::span<const int32_t> tokens, int32_t max_tokens) {
  const int32_t limit =
      std::min<int32_t>(max_tokens, static_cast<int32_t>(tokens.size())) / shape_.page_tokens;
  path_.clear();
  std::ranges::fill(runs_, 0);
  PrefixMatch match;
  size_t usable_blocks = 0;
  int32_t parent = -1;
  for (int32_t block = 0; block < limit; ++block) {
    const int32_t node =
        Find(parent, salt, tokens.subspan(int64_t{block} * shape_.page_tokens, shape_.page_tokens));
    if (node < 0) break;
    path_.push_back(node);
    parent = node;
    bool usable = true;
    for (int32_t group = 0; group < groups(); ++group) {
      runs_[group] = PageOf(node, group) >= 0 ? runs_[group] + 1 : 0;
      const int32_t length = (block + 1) * shape_.page_tokens;
      usable = usable && runs_[group] >= block + 1 - FirstNeededBlock(group, length);
    }
    if (usable) {
      usable_blocks = path_.size();
      match.node = {node, nodes_[node].generation};
    }
  }
  match.path = std::span(path_).first(usable_blocks);
  for (int32_t group = 0; group < groups(); ++group) {
    int32_t block = FirstNeededBlock(group, match.blocks() * shape_.page_tokens);
    for (; block < match.blocks(); ++block) {
      if (pages_[PageOf(match.path[block], group)].references == 0) ++match.cached;
    }
  }
  return match;
}

bool PagePool::WouldReuse(const PrefixMatch& match, int32_t block, int32_t page) const {
  if (block >= match.blocks() || pages_[page].node != match.path[block]) return false;
  return block >= FirstNeededBlock(pages_[page].group, match.blocks() * shape_.page_tokens);
}

int32_t PagePool::Take(const PrefixMatch& match, int32_t group, int32_t block) {
  if (block < FirstNeededBlock(group, match.blocks() * shape_.page_tokens)) return -1;
  const int32_t page = PageOf(match.path[block], group);
  Acquire(page);
  return page;
}

bool PagePool::Alive(PrefixNode node) const {
  return node.index < 0 || nodes_[node.index].generation == node.generation;
}

PrefixNode PagePool::Ancestor(PrefixNode node, int32_t levels) const {
  for (; levels > 0 && node.index >= 0; --levels) {
    const int32_t parent = nodes_[node.index].parent;
    node = parent < 0 ? PrefixNode{} : PrefixNode{parent, nodes_[parent].generation};
  }
  return node;
}

std::optional<PagePool::Published> PagePool::Publish(int32_t salt, PrefixNode parent,
                                                     std::span<const int32_t> ids,
                                                     std::span<int32_t> pages) {
  if (!Alive(parent)) return std::nullopt;
  int32_t index = Find(parent.index, salt, ids);
  const bool known = index >= 0;
  if (!known) {
    for (int tries = 0; free_nodes_.empty() && oldest_ >= 0 && tries < kNodeEvictions; ++tries) {
      Evict();
    }
    if (free_nodes_.empty() || !Alive(parent)) return std::nullopt;
    index = NewNode(parent.index, salt, ids);
  }
  for (int32_t group = 0; group < groups(); ++group) {
    int32_t& published = PageOf(index, group);
    if (published == pages[group]) continue;
    if (published >= 0) {
      Acquire(published);
      Release(pages[group]);
      pages[group] = published;
    } else {
      published = pages[group];
      pages_[published].node = index;
      pages_[published].group = group;
    }
  }
  return Published{{index, nodes_[index].generation}, known};
}

void PagePool::Unpublish(int32_t salt, std::span<const int32_t> ids) {
  const int32_t node = Find(-1, salt, ids);
  if (node < 0) return;
  LeaveBucket(node);
  nodes_[node].unpublished = true;
}

void PagePool::CheckInvariants(std::span<const int32_t> references) const {
  int32_t owned = 0, cached = 0, listed = 0;
  for (int32_t page = 0; page < total(); ++page) {
    const Page& entry = pages_[page];
    Check(entry.references == references[page], "references equal the pages held (I2)");
    if (entry.references > 0) ++owned;
    if (entry.references == 0 && entry.node >= 0) ++cached;
    if (entry.node >= 0) {
      Check(PageOf(entry.node, entry.group) == page, "a page and its node name each other");
    }
    Check(entry.listed == IsEvictable(page), "what can be taken back is listed");
    if (entry.listed) ++listed;
  }
  Check(cached == cached_, "cached pages are counted");
  Check(free() + owned + cached == total(), "free + owned + cached = total (I2)");
  for (const int32_t page : free_) {
    Check(pages_[page].references == 0 && pages_[page].node < 0, "a free page belongs to nobody");
  }
  int32_t walked = 0;
  for (int32_t page = oldest_; page >= 0; page = pages_[page].next) ++walked;
  Check(walked == listed, "the list holds what is listed");

  std::vector<int32_t> children(nodes_.size(), 0);
  int32_t used = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& node = nodes_[i];
    if (node.salt < 0) continue;
    ++used;
    if (node.parent >= 0) {
      Check(nodes_[node.parent].salt == node.salt, "a chain has one salt");
      ++children[node.parent];
    }
    Check((Find(node.parent, node.salt, Ids(static_cast<int32_t>(i))) == static_cast<int32_t>(i)) !=
              node.unpublished,
          "a node is found by its ids unless it was unpublished");
    for (int32_t group = 0; group < groups(); ++group) {
      if (shape_.windows[group] > 0) continue;
      const int32_t page = PageOf(static_cast<int32_t>(i), group);
      Check(page >= 0, "a node has its pages of groups without a window");
      Check(node.parent < 0 ||
                pages_[page].references <= pages_[PageOf(node.parent, group)].references,
            "who holds a page holds the ones before it");
    }
  }
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].salt < 0) continue;
    Check(nodes_[i].children == children[i], "children are counted");
    Check(children[i] > 0 || !Empty(static_cast<int32_t>(i)), "a node without pages has children");
  }
  Check(used + static_cast<int32_t>(free_nodes_.size()) == static_cast<int32_t>(nodes_.size()),
        "nodes are used or free");
}

}  // namespace baram
